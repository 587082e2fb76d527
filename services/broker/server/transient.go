package server

import (
	"errors"
	"syscall"
)

// isTransient names the errors of accept(2) that pass by themselves.
func isTransient(err error) bool {
	for _, e := range []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
