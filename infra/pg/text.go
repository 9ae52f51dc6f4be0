package pg

import "strings"

// Text is s as a text column takes it, at most so many bytes of it: somebody
// else's words, an error's say, may be no UTF-8 and hold zero bytes, and must not
// keep a record from being written.
func Text(s string, most int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
