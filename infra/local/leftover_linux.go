package local

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// leftovers are the processes that a server of the data directory has left behind;
// none where one still runs. All of them work in the directory.
func leftovers(data string) (ids []Identity, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	home, err := os.Stat(data)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		id, err := Identify(pid) // before it is looked at: its number may be another's soon
		if err != nil {
			continue
		}
		if at, err := os.Stat(dir + "/cwd"); err != nil || !os.SameFile(at, home) {
			continue // it is another's, or has ended
		}
		args, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue
		}
		name, _, _ := bytes.Cut(args, []byte{0})
		switch {
		case bytes.HasPrefix(name, []byte("postgres: ")):
			ids = append(ids, id)
		case filepath.Base(string(name)) == "postgres":
			return nil, nil // the server itself
		}
	}
	return ids, nil
}
