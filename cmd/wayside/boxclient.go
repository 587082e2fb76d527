package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/site"
)

// boxFlags say which box, and prove that one may steer it.
type boxFlags struct {
	box, tokenFile string
	warn           func() io.Writer
}

func (f *boxFlags) bind(cmd *cobra.Command) {
	f.warn = cmd.ErrOrStderr
	cmd.Flags().StringVar(&f.box, "box", "", "address of the box's status page: `HOST`, HOST:PORT or a URL")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "`FILE` with the box's token")
}

func (f *boxFlags) open(needToken bool) (*boxClient, error) {
	if f.box == "" {
		return nil, errors.New("which box is not known: give --box HOST")
	}
	base := f.box
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--box %q is no address of a status page; want one such as http://192.0.2.10%s", f.box, site.DefaultConsoleListen)
	}
	if u.Port() == "" && u.Scheme == "http" {
		u.Host += site.DefaultConsoleListen
	}
	b := &boxClient{base: strings.TrimSuffix(u.String(), "/"), http: &http.Client{Timeout: 6 * time.Minute,
		// The token is for who was named, and for how they were named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if f.tokenFile != "" {
		text, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the box's token: %w", err)
		}
		b.token = strings.TrimSpace(string(text))
	}
	if needToken && b.token == "" {
		return nil, errors.New("the box acts only for who has its token: give --token-file FILE (the file api.token of the secrets folder on its boot partition)")
	}
	if needToken && u.Scheme == "http" && !local(u.Hostname()) {
		fmt.Fprintf(f.warn(), "warning: the token goes to %s unencrypted: who listens on that network can use it\n", u.Host)
	}
	return b, nil
}

// local says whether a host is this machine, where a tunnel may end.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// boxClient speaks to one box's status page.
type boxClient struct {
	base, token string
	http        *http.Client
}

func (b *boxClient) get(ctx context.Context, path string, v any) error {
	return b.do(ctx, http.MethodGet, path, v)
}

func (b *boxClient) post(ctx context.Context, path string, query map[string]string, v any) error {
	q := url.Values{}
	for name, value := range query {
		q.Set(name, value)
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return b.do(ctx, http.MethodPost, path, v)
}

func (b *boxClient) do(ctx context.Context, method, path string, v any) error {
	return b.send(ctx, method, path, nil, v)
}

// errAsk is wrapped when no answer came, which may have been lost.
var errAsk = errors.New("ask the box")

// send asks with a body. What is wrong with a profile comes back as site.Errors.
func (b *boxClient) send(ctx context.Context, method, path string, in []byte, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, b.base+path, bytes.NewReader(in))
	if err != nil {
		return err
	}
	if method != http.MethodGet {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errAsk, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", errAsk, path, err)
	case resp.StatusCode/100 == 3:
		return fmt.Errorf("the box at %s sends to %q: give that address to --box if it is the box's", b.base, resp.Header.Get("Location"))
	case resp.StatusCode == http.StatusNotFound && strings.HasPrefix(string(body), "404 page"): // nobody's answer but the router's
		return fmt.Errorf("the box at %s knows no %s: it is older than this tool, or no box", b.base, path)
	case resp.StatusCode == http.StatusUnprocessableEntity:
		var wrong site.Errors
		if err := json.Unmarshal(body, &wrong); err == nil && len(wrong) > 0 {
			return wrong
		}
		fallthrough
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("the box refuses: %s", strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("ask the box: %s: the answer cannot be read: %v", path, err)
	}
	return nil
}
