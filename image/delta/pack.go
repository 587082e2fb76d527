package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Pack is a release's pack, wherever it lies. Range returns n bytes from off
// on; what it returns may be shorter or wrong, everything is checked.
type Pack interface {
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// ErrNoRanges is matched by the error of a Pack that can only be read from its
// start.
var ErrNoRanges = errors.New("the server does not serve ranges")

// StatusError is what a web server answered instead of the pack.
type StatusError struct {
	URL    string
	Status string // "503 Service Unavailable"
	Code   int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("fetch %s: the server answers %s", e.URL, e.Status)
}

// HTTPPack is a pack on a web server. A server that answers a range with the
// whole file is used only for what begins at its start.
func HTTPPack(client *http.Client, url string) Pack { return &httpPack{client, url} }

type httpPack struct {
	client *http.Client
	url    string
}

func (p *httpPack) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch pack: %v", err)
	}
	want := fmt.Sprintf("bytes %d-%d/", off, off+n-1)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	// A server that compresses on the way would answer ranges of something else.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch pack: %w", err)
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), want):
		return resp.Body, nil
	case resp.StatusCode == http.StatusOK && off == 0:
		return resp.Body, nil // the caller reads n bytes and closes
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return nil, fmt.Errorf("fetch %s: %w: bytes %d-%d answered with %s, Content-Range %q",
			p.url, ErrNoRanges, off, off+n-1, resp.Status, resp.Header.Get("Content-Range"))
	}
	return nil, &StatusError{URL: p.url, Status: resp.Status, Code: resp.StatusCode}
}

// FilePack is a pack on a disk.
func FilePack(r io.ReaderAt) Pack { return filePack{r} }

type filePack struct{ r io.ReaderAt }

func (p filePack) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(p.r, off, n)), nil
}
