package store

// PrepareWhile is Prepare with a bound of the test's own on what Prepare bounds.
var PrepareWhile = prepare
