package local

import "syscall"

// endWithParent has the kernel send sig to the child when its parent ends.
func endWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }
