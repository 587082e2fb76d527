//go:build !linux

package server

import "github.com/waysideos/wayside/services/broker/store"

// sendfile is for Linux; elsewhere records are copied.
func (*sender) sendfile(*store.Slice) (bool, error) { return false, nil }
