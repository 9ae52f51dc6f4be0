//go:build !linux

package benchmove

// inMemory is not known here.
func inMemory(string) bool { return false }
