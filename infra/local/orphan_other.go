//go:build !linux

package local

import "syscall"

// endWithParent does nothing: this kernel cannot tie a child to its parent.
func endWithParent(*syscall.SysProcAttr, syscall.Signal) {}
