package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	attempts     = 5                // without a byte of progress between them
	stallTimeout = 30 * time.Second // a body that brings nothing for so long is given up and resumed
)

// errPermanent marks answers that asking again does not change.
var errPermanent = errors.New("refused")

// errKeep marks that what came cannot be written.
var errKeep = errors.New("keep what came")

// NewClient returns the HTTP client downloads use unless they are given one. It
// honours the usual proxy variables and has deadlines for everything but the
// body, which download watches itself.
func NewClient() *http.Client {
	dialer := &net.Dialer{Timeout: 15 * time.Second}
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       60 * time.Second,
	}}
}

// sink takes a download; what it holds already is asked for no second time.
type sink interface {
	io.Writer
	Len() (int64, error)
	Reset() error // drop everything
}

// fetcher downloads with retry and resume.
type fetcher struct {
	client *http.Client
	wait   func(attempt int) time.Duration // before attempt 1, 2, ...
}

func backoff(attempt int) time.Duration { return 250 * time.Millisecond << attempt }

// get fetches a file of at most limit bytes into memory.
func (f fetcher) get(ctx context.Context, link string, limit int64) ([]byte, error) {
	var buf memory
	if err := f.download(ctx, link, &buf, -1, limit, nil); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// download appends to dst what dst still lacks of the file at link. size is the
// file's size in bytes, or -1 when it is not known: then an interrupted
// download begins anew, since the file may have changed between. Nothing beyond
// limit bytes is taken. The error is errNotFound for a 404.
func (f fetcher) download(ctx context.Context, link string, dst sink, size, limit int64, progress func(done int64)) error {
	for attempt := 0; ; {
		before, err := dst.Len()
		if err != nil {
			return err
		}
		if size >= 0 && before == size {
			return nil
		}
		if before > 0 && (size < 0 || before > size) {
			if err := dst.Reset(); err != nil {
				return err
			}
			before = 0
		}
		err = f.once(ctx, link, dst, before, size, limit, progress)
		after, lenErr := dst.Len()
		switch {
		case err == nil && (size < 0 || after == size):
			return lenErr
		case ctx.Err() != nil:
			return fmt.Errorf("fetch %s: %w", redacted(link), context.Cause(ctx))
		case errors.Is(err, errNotFound) || errors.Is(err, errPermanent) || errors.Is(err, errKeep):
			return fmt.Errorf("fetch %s: %w", redacted(link), err)
		case err == nil:
			err = fmt.Errorf("%d of %d bytes came", after, size)
		}
		if after > before && size >= 0 {
			attempt = 0
		}
		if attempt++; attempt >= attempts {
			return fmt.Errorf("fetch %s: gave up after %d attempts: %v; is there a network, and is this the mirror that is meant (--mirror)?", redacted(link), attempts, err)
		}
		if err := sleep(ctx, f.wait(attempt)); err != nil {
			return fmt.Errorf("fetch %s: %w", redacted(link), err)
		}
	}
}

// once makes one request for what lies behind offset.
func (f fetcher) once(ctx context.Context, link string, dst sink, offset, size, limit int64, progress func(int64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return fmt.Errorf("%w: %v", errPermanent, err)
	}
	// Without it the transport asks for gzip and undoes it, and sizes and
	// ranges no longer mean the file's bytes.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "wayside")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	restart, err := checkAnswer(resp, offset)
	if err != nil {
		return err
	}
	if restart {
		if err := dst.Reset(); err != nil {
			return err
		}
		offset = 0
	}
	if size >= 0 {
		limit = size
	}
	return copyBody(dst, resp.Body, offset, limit, cancel, progress)
}

// checkAnswer judges status and range; restart says that the body begins at the
// file's first byte although more was asked for.
func checkAnswer(resp *http.Response, offset int64) (restart bool, err error) {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return offset > 0, nil
	case code == http.StatusPartialContent:
		if start, ok := rangeStart(resp.Header.Get("Content-Range")); !ok || start != offset {
			return false, fmt.Errorf("%w: asked from byte %d, answered %q", errPermanent, offset, resp.Header.Get("Content-Range"))
		}
		return false, nil
	case code == http.StatusNotFound || code == http.StatusGone:
		return false, fmt.Errorf("%w (%s)", errNotFound, resp.Status)
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		return false, errors.New(resp.Status)
	default:
		return false, fmt.Errorf("%w: %s", errPermanent, resp.Status)
	}
}

func rangeStart(header string) (int64, bool) {
	rest, ok := strings.CutPrefix(header, "bytes ")
	first, _, ok2 := strings.Cut(rest, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	return start, ok && ok2 && err == nil
}

// copyBody copies until the end, limit, or a stall, which stop ends.
func copyBody(dst io.Writer, body io.Reader, done, limit int64, stop func(), progress func(int64)) error {
	stall := time.AfterFunc(stallTimeout, stop)
	defer stall.Stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		stall.Reset(stallTimeout)
		if done += int64(n); done > limit {
			return fmt.Errorf("%w: more than the expected %d bytes came", errPermanent, limit)
		}
		if _, werr := dst.Write(buf[:n]); werr != nil {
			return fmt.Errorf("%w: %w", errKeep, werr)
		}
		if progress != nil && n > 0 {
			progress(done)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// redacted is the link without a password in it, for messages.
func redacted(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return "a malformed URL"
	}
	return u.Redacted()
}

type memory struct{ bytes.Buffer }

func (m *memory) Len() (int64, error) { return int64(m.Buffer.Len()), nil }
func (m *memory) Reset() error        { m.Buffer.Reset(); return nil }

// file appends to a file opened for writing.
type file struct{ *os.File }

func (f file) Len() (int64, error) { return f.Seek(0, io.SeekEnd) }

func (f file) Reset() error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}
