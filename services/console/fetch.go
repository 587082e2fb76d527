package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// askTimeout bounds one question to init or a service, whatever it does:
	// a service that hangs costs a page this long.
	askTimeout = 2 * time.Second
	maxStatus  = 1 << 20 // bytes of one status answer
	maxMetrics = 8 << 20 // bytes of one service's metrics
)

// ask sends GET path to an HTTP server on a unix socket and reads at most
// limit bytes of the answer.
func ask(ctx context.Context, socket, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://box"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("GET %s: answer is longer than %d bytes", path, limit)
	}
	return body, nil
}

// askJSON decodes the answer into v.
func askJSON(ctx context.Context, socket, path string, v any) error {
	body, err := ask(ctx, socket, path, maxStatus)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("GET %s: %v", path, err)
	}
	return nil
}
