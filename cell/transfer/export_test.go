package transfer

// Touched is the first statement of a round that reads the noted keys.
const Touched = touched
