package status

import (
	"context"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

type ownerKey struct{}

// noteOwner remembers with a connection whether its other end runs as the
// same user as this process: root, on a box.
func noteOwner(ctx context.Context, c net.Conn) context.Context {
	if counted, ok := c.(*counted); ok {
		c = counted.Conn
	}
	return context.WithValue(ctx, ownerKey{}, sameUser(c))
}

func sameUser(c net.Conn) bool {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	same := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		same = err == nil && int(cred.Uid) == os.Geteuid()
	})
	return err == nil && same
}

// ownerOnly refuses everybody else: group wayside may look, not act. The
// status page is in that group, and it is the service that strangers reach.
func ownerOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if owner, _ := r.Context().Value(ownerKey{}).(bool); !owner {
			http.Error(w, "only root may ask for this", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
