package status

import (
	"context"
	"net"
	"net/http"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// nobody is a peer that could not be told.
const nobody = -1

// notePeer remembers with a connection which user its other end runs as.
func notePeer(ctx context.Context, c net.Conn) context.Context {
	if counted, ok := c.(*counted); ok {
		c = counted.Conn
	}
	return context.WithValue(ctx, peerKey{}, peer(c))
}

func peer(c net.Conn) int {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nobody
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nobody
	}
	uid := nobody
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	if err != nil {
		return nobody
	}
	return uid
}

// owner is the user of this process: root, on a box.
var owner = os.Geteuid()

// only refuses everybody else: group wayside may look, not act. The status
// page is in that group, and it is the service that strangers reach.
func only(next http.Handler, users ...int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(peerKey{}).(int)
		if !known || uid < 0 || !slices.Contains(users, uid) {
			http.Error(w, "only root, and for updates the updater, may ask for this", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
