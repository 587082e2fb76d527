package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

const (
	updater = "updater"
	// minToken keeps out what can be tried out over a network.
	minToken = 16 // characters
	// repoLimit bounds how long another box may take for one file.
	repoLimit = 2 * time.Hour
	// guesses is how many wrong tokens are answered at a time; each takes
	// guessDelay.
	guesses    = 2
	guessDelay = time.Second
)

// CheckToken refuses a token that could be guessed. "" is none: the verbs are
// off.
func CheckToken(token string) error {
	if token != "" && len(token) < minToken {
		return fmt.Errorf("the token has %d characters, want at least %d", len(token), minToken)
	}
	return nil
}

// updates are the pages of the updater: what it says, its verbs for who has
// the token, and its repository for other boxes.
type updates struct {
	token   string
	proxy   *httputil.ReverseProxy
	guesses chan struct{}
	log     *slog.Logger
}

func newUpdates(socket, token string, log *slog.Logger) *updates {
	return &updates{token: token, log: log, guesses: make(chan struct{}, guesses), proxy: newProxy(socket, updater, log)}
}

// newProxy hands requests to the API of a service.
func newProxy(socket, service string, log *slog.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", service
			r.Out.Header.Del("Authorization")
		},
		Transport: &http.Transport{
			DisableCompression: true, MaxIdleConns: 2, IdleConnTimeout: 10 * time.Second, ResponseHeaderTimeout: 5 * time.Minute,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: askTimeout}).DialContext(ctx, "unix", socket)
			},
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				http.Error(w, "the "+service+" "+plain(err), http.StatusBadGateway)
			}
		},
	}
}

// state answers GET /update.
func (u *updates) state(w http.ResponseWriter, r *http.Request) { u.proxy.ServeHTTP(w, r) }

// verb answers POST /update/VERB.
func (u *updates) verb(w http.ResponseWriter, r *http.Request, name string) {
	if !u.allowed(w, r) {
		return
	}
	u.log.Info("update verb over the network", "verb", name, "from", r.RemoteAddr)
	// Activating copies a kernel image, and a refresh waits for slow servers.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(5 * time.Minute))
	u.forward(w, r, "/"+name)
}

// allowed is true for who has the token; all others are answered.
func (u *updates) allowed(w http.ResponseWriter, r *http.Request) bool {
	if u.token == "" {
		http.Error(w, "verbs are off on this box: put a file api.token into the secrets folder of its boot partition", http.StatusForbidden)
		return false
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !same(given, u.token) {
		u.refuse(w, r)
		return false
	}
	return true
}

// refuse answers wrong tokens slowly, and few at a time.
func (u *updates) refuse(w http.ResponseWriter, r *http.Request) {
	u.log.Warn("wrong token for a verb", "from", r.RemoteAddr)
	select {
	case u.guesses <- struct{}{}:
		select {
		case <-time.After(guessDelay):
		case <-r.Context().Done():
		}
		<-u.guesses
	default:
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, "wrong token", http.StatusUnauthorized)
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// profile answers GET /site.
func (u *updates) profile(w http.ResponseWriter, r *http.Request) { u.forward(w, r, "/site") }

// applyProfile answers POST /site: another site profile for the box.
func (u *updates) applyProfile(w http.ResponseWriter, r *http.Request) {
	if !u.allowed(w, r) {
		return
	}
	u.log.Info("site profile over the network", "file", r.URL.Query().Get("file"), "bytes", r.ContentLength, "from", r.RemoteAddr)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(5 * time.Minute))
	u.forward(w, r, "/site")
}

// repo answers GET /update/repo/: another box may take hours.
func (u *updates) repo(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(repoLimit))
	u.forward(w, r, "/repo/"+r.PathValue("file"))
}

func (u *updates) forward(w http.ResponseWriter, r *http.Request, path string) {
	out := r.Clone(r.Context())
	out.URL.Path, out.URL.RawPath = path, ""
	u.proxy.ServeHTTP(w, out)
}

// askUpdate is what the updater says, nil if there is none or it is silent.
func (c *collector) askUpdate(ctx context.Context) *manifest.Update {
	v := &manifest.Update{}
	if askJSON(ctx, filepath.Join(c.runDir, updater, manifest.UpdateSock), "/update", v) != nil {
		return nil
	}
	return v
}

// judgeUpdate says what somebody should know of updates.
func (s *Snapshot) judgeUpdate(add adder) {
	u := s.Update
	if u == nil {
		return
	}
	switch {
	case u.Trial != nil:
		add(Note, "Version %s is on trial.", u.Running)
		for _, c := range u.Checks {
			if !c.OK {
				add(Attention, "Trial of %s: %s: %s.", u.Running, c.Name, trimDot(c.Detail))
			}
		}
	case u.Last != nil && !u.Last.Committed:
		text := fmt.Sprintf("The update to %s failed, the box runs %s. %s: %s.", u.Last.Version, u.Running, orWord(u.Last.Check, "reason"), trimDot(orDash(u.Last.Reason)))
		if u.Blame == "world" {
			text += " The version before did not reach it either: it will be tried again."
		}
		add(Attention, "%s", text)
	}
	if u.Problem != "" && (u.Available != nil || u.Prepared != nil) {
		add(Attention, "The update does not go on: %s.", trimDot(firstLine(u.Problem)))
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// updateView is the section of the page.
type updateView struct {
	Items       []item
	Step        string
	Done, Total int64
	Log         []string // of a failed trial
}

func (v *view) update(s *Snapshot) {
	u := s.Update
	if u == nil {
		return
	}
	out := &updateView{Step: u.Step, Done: u.Done, Total: u.Total}
	add := func(name, value, class string) {
		if value != "" {
			out.Items = append(out.Items, item{name, value, class})
		}
	}
	add("Runs", u.Running, "")
	switch {
	case u.Trial != nil:
		add("On trial", fmt.Sprintf("for %s more at most", durationText(secondsOf(u.Trial.Remaining))), "warn")
	case u.Prepared != nil && u.Phase == manifest.UpdatePending:
		add("Starts at the next reboot", releaseText(u.Prepared), "")
	case u.Prepared != nil:
		add("Prepared", releaseText(u.Prepared), "")
	}
	if u.Available != nil && (u.Prepared == nil || u.Prepared.Version != u.Available.Version) {
		add("Available", releaseText(u.Available), "")
	}
	add("Waits", u.Waits, "")
	for _, r := range u.Refused {
		add("Not for this box: "+r.Name, r.Value, "warn")
	}
	if l := u.Last; l != nil && l.Committed {
		add("Last update", "to "+l.Version+", "+l.Time.UTC().Format("2006-01-02 15:04 UTC"), "good")
	} else if l != nil {
		add("Last update", fmt.Sprintf("to %s failed: %s: %s", l.Version, l.Check, orDash(l.Reason)), "bad")
		add("Reset cause", l.ResetCause, "")
		out.Log = l.Log
	}
	add("By itself", autoText(u.Auto, u.Window), "")
	for _, src := range u.Sources {
		if src.OK {
			add(src.Name, "answered "+src.Checked.UTC().Format("2006-01-02 15:04 UTC"), "good")
		} else {
			add(src.Name, src.Error, "warn")
		}
	}
	if u.Problem != "" {
		add("Problem", u.Problem, "warn")
	}
	v.Update = out
}

func releaseText(r *manifest.UpdateRelease) string {
	text := r.Version
	if r.Bytes > 0 {
		text += ", at most " + bytesText(r.Bytes)
	}
	if r.Notes != "" {
		text += ": " + r.Notes
	}
	return text
}

func autoText(auto, window string) string {
	switch auto {
	case "prepare":
		return "downloads and verifies"
	case "install":
		if window != "" {
			return "downloads, verifies, and switches between " + window
		}
		return "downloads, verifies and switches"
	case "off":
		return "nothing"
	}
	return auto
}
