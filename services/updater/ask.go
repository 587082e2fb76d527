package updater

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

const (
	askTimeout = 10 * time.Second // activating copies a kernel image first: see actTimeout
	actTimeout = 2 * time.Minute
	maxAnswer  = 1 << 20 // bytes
)

// Init is what the updater asks of the box's init.
type Init interface {
	Box(ctx context.Context) (manifest.Box, error)
	Slots(ctx context.Context) (manifest.Slots, error)
	// Ask posts one of the requests of manifest.Slots: path and body, nil for
	// none. An error that init gave for good is a *RefusedError.
	Ask(ctx context.Context, path string, body any) error
}

// RefusedError is what init does not want to do, in its words.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// InitSocket is the init that listens on the socket of that path.
func InitSocket(path string) Init { return initSocket(path) }

type initSocket string

func (s initSocket) Box(ctx context.Context) (b manifest.Box, err error) {
	return b, ask(ctx, string(s), http.MethodGet, "/status", nil, &b)
}

func (s initSocket) Slots(ctx context.Context) (v manifest.Slots, err error) {
	return v, ask(ctx, string(s), http.MethodGet, "/update", nil, &v)
}

func (s initSocket) Ask(ctx context.Context, path string, body any) error {
	return ask(ctx, string(s), http.MethodPost, path, body, nil)
}

// serviceReport asks a service for its report.
func serviceReport(ctx context.Context, runDir, name string) (r manifest.Report, err error) {
	err = ask(ctx, filepath.Join(runDir, name, manifest.StatusSock), http.MethodGet, "/status", nil, &r)
	return r, err
}

// ask sends one request to an HTTP server on a unix socket.
func ask(ctx context.Context, socket, method, path string, body, answer any) error {
	timeout := askTimeout
	if method == http.MethodPost {
		timeout = actTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://box"+path, in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", timeout)
		}
		return fmt.Errorf("ask %s: %s %s: %w", filepath.Base(socket), method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
	case resp.StatusCode/100 == 4:
		return &RefusedError{strings.TrimSpace(string(data))}
	case resp.StatusCode/100 != 2:
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(data)))
	case answer != nil:
		err = json.Unmarshal(data, answer)
	}
	if err != nil {
		return fmt.Errorf("ask %s: %s %s: %w", filepath.Base(socket), method, path, err)
	}
	return nil
}
