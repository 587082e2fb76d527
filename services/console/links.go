package console

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

const replicator = "replicator"

// links are the replicator's API, docs/replication.md: what it says for
// everybody who may see the page, its verbs for who has the token.
type links struct {
	proxy *httputil.ReverseProxy
	door  *updates
	log   *slog.Logger
}

func newLinks(runDir string, door *updates, log *slog.Logger) *links {
	return &links{proxy: newProxy(filepath.Join(runDir, replicator, manifest.StatusSock), replicator, log), door: door, log: log}
}

func (l *links) verb(w http.ResponseWriter, r *http.Request) {
	if !l.door.allowed(w, r) {
		return
	}
	l.log.Info("link verb over the network", "path", r.URL.Path, "from", r.RemoteAddr)
	// A verb waits for the lot under way, which may be on a slow uplink.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
	l.proxy.ServeHTTP(w, r)
}
