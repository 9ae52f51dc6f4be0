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
	for _, dir := range dirs {
		if cwd, err := os.Readlink(dir + "/cwd"); err != nil || cwd != data {
			continue // it is another's, or has ended
		}
		args, err := os.ReadFile(dir + "/cmdline")
		pid, bad := strconv.Atoi(filepath.Base(dir))
		if err != nil || bad != nil || len(args) == 0 {
			continue
		}
		if !bytes.HasPrefix(args, []byte("postgres: ")) {
			return nil, nil // the server itself
		}
		id, err := Identify(pid)
		if err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
