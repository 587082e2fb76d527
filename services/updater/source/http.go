package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// HTTP is a folder on a web server. Nothing is asked of the server but to give
// files; one that knows ranges saves most of a download.
type HTTP struct {
	base   string
	client *http.Client
	stall  time.Duration
}

// Options of an HTTP source; the zero value has the defaults.
type Options struct {
	TLS *tls.Config // nil: the system's authorities
	// Stall is the longest time in which an answer may not move on by
	// progressBytes; default 30 s.
	Stall time.Duration
}

const (
	defaultStall = 30 * time.Second
	// progressBytes is what counts as moving on: a server that sends a byte now
	// and then holds up an update as well as one that sends none.
	progressBytes = 1 << 10
	// maxSkip is the most that is thrown away of a server that knows no ranges
	// when the rest of a file is asked for: more than any file here has.
	maxSkip = 1 << 30
)

// NewHTTP is the repository at the URL base.
func NewHTTP(base string, o Options) *HTTP {
	if o.Stall == 0 {
		o.Stall = defaultStall
	}
	dialer := &net.Dialer{Timeout: o.Stall, KeepAlive: 15 * time.Second}
	return &HTTP{
		base: strings.TrimSuffix(base, "/") + "/", stall: o.Stall,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext: dialer.DialContext, TLSClientConfig: o.TLS,
				TLSHandshakeTimeout: o.Stall, ResponseHeaderTimeout: o.Stall, IdleConnTimeout: time.Minute,
				// A range is one of the file's own bytes, not of a gzip of it.
				DisableCompression: true,
				MaxConnsPerHost:    2, MaxResponseHeaderBytes: 64 << 10, ReadBufferSize: 16 << 10,
			},
			CheckRedirect: checkRedirect,
		},
	}
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > 5 {
		return errors.New("is redirected more than 5 times")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("is redirected from https to http")
	}
	return nil
}

func (h *HTTP) String() string { return strings.TrimSuffix(h.base, "/") }

// Close drops idle connections.
func (h *HTTP) Close() { h.client.CloseIdleConnections() }

// Open implements Source.
func (h *HTTP) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	fail := func(kind Kind, err error) (io.ReadCloser, error) {
		cancel(nil)
		return nil, &Error{Source: h.String(), Name: name, Kind: kind, Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+(&url.URL{Path: name}).EscapedPath(), nil)
	if err != nil {
		return fail(Misbehaves, err)
	}
	ranged := offset > 0 || length != Rest
	if ranged {
		req.Header.Set("Range", byteRange(offset, length))
	}
	resp, err := h.client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL is said already
		}
		return fail(Unreachable, err)
	}
	b := &body{ReadCloser: resp.Body, cancel: cancel, ctx: ctx, stall: h.stall, left: length, source: h.String(), name: name}
	if err := h.accept(resp, b, offset, length); err != nil {
		b.Close()
		var e *Error
		if errors.As(err, &e) {
			e.Source, e.Name = h.String(), name
		}
		return nil, err
	}
	return b, nil
}

func byteRange(offset, length int64) string {
	if length == Rest {
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
}

// accept judges the head of an answer and leaves b at offset.
func (h *HTTP) accept(resp *http.Response, b *body, offset, length int64) error {
	switch code := resp.StatusCode; {
	case code == http.StatusPartialContent:
		first, last, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || first != offset || length != Rest && last-first+1 > length {
			return &Error{Kind: Misbehaves, Err: fmt.Errorf("asked for %s, got %q", byteRange(offset, length), clip(resp.Header.Get("Content-Range")))}
		}
		if length == Rest && total >= 0 {
			b.left = total - offset
		}
		return nil
	case code == http.StatusOK && offset == 0 && length == Rest:
		b.left = resp.ContentLength // -1 if it does not say, which is Rest
		return nil
	case code == http.StatusOK && length == Rest && offset <= maxSkip:
		b.left = Rest
		if resp.ContentLength >= 0 {
			b.left = resp.ContentLength
		}
		_, err := io.CopyN(io.Discard, b, offset)
		return err
	case code == http.StatusOK:
		return &Error{Kind: NoRanges, Err: errors.New("a part was asked for, and the server sends all of it")}
	case code == http.StatusNotFound || code == http.StatusGone:
		return &Error{Kind: NotThere, Err: errors.New(resp.Status)}
	case code == http.StatusRequestedRangeNotSatisfiable:
		return &Error{Kind: Misbehaves, Err: fmt.Errorf("the file has no %s: %s", byteRange(offset, length), resp.Status)}
	case code == http.StatusTooManyRequests || code >= 500:
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &Error{Kind: Busy, Err: errors.New(resp.Status), After: max(0, min(after, 600))}
	default:
		return &Error{Kind: Refused, Err: errors.New(resp.Status)}
	}
}

// contentRange reads "bytes FIRST-LAST/TOTAL"; total is -1 for "*"
// (RFC 9110, 14.4).
func contentRange(s string) (first, last, total int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, of, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, errors.New("no content range")
	}
	total = -1
	if of != "*" {
		if total, err = parseSize(of); err != nil {
			return 0, 0, 0, err
		}
	}
	if first, err = parseSize(from); err != nil {
		return 0, 0, 0, err
	}
	if last, err = parseSize(to); err != nil {
		return 0, 0, 0, err
	}
	if last < first || total >= 0 && last >= total {
		return 0, 0, 0, errors.New("impossible content range")
	}
	return first, last, total, nil
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
