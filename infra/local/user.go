package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// A User is whom a child runs as.
type User struct {
	Name string
	UID  int
	GID  int
}

// Unprivileged is the user that Postgres, which refuses root, runs as: nil (this
// user) unless this process is root, else postgres, else nobody.
func Unprivileged() (*User, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is "no other user", as documented
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		return &User{Name: name, UID: uid, GID: gid}, nil
	}
	return nil, errors.New("postgres refuses root and there is neither a user postgres nor nobody: run as another user")
}

func (u *User) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)} //nolint:gosec // ids come from the user database
}

// Own gives the tree at dir to u; nil owns what this process made already.
func (u *User) Own(dir string) error {
	if u == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, u.UID, u.GID)
	})
}

// CanReach reports whether u may pass through every directory above path.
func (u *User) CanReach(path string) bool {
	if u == nil {
		return true
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || !u.mayEnter(info) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

func (u *User) mayEnter(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	switch {
	case int(st.Uid) == u.UID:
		return info.Mode()&0o100 != 0
	case int(st.Gid) == u.GID:
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}
