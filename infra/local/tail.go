package local

import (
	"bytes"
	"os"
	"strings"
)

// maxTail bounds how much of a log Tail reads.
const maxTail = 32 << 10

// Tail is the last n lines of a file, "" when there is nothing to read.
func Tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	size := min(info.Size(), maxTail)
	buf := make([]byte, size)
	if _, err := f.ReadAt(buf, info.Size()-size); err != nil {
		return ""
	}
	lines := strings.Split(string(bytes.TrimSpace(buf)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
