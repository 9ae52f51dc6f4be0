//go:build !linux

package run

func unhurried() {}
