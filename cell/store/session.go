package store

// sessionLock marks our session locks, in the top byte; see cell.lock_key.
const sessionLock int64 = 0x7D << 56
