//go:build !linux

package kafka

import "syscall"

func unansweredLimit(_, _ string, _ syscall.RawConn) error { return nil }
