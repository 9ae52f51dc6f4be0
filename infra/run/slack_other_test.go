//go:build !linux

package run

import "context"

func aService(context.Context) error { return nil }
