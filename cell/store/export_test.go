package store

// PrepareWhile is Prepare with a bound of the test's own on what Prepare bounds.
var PrepareWhile = prepare

// Insist is how Prepare does what needs a lock on a table.
var Insist = insist
