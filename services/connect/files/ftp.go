package files

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"path"

	"github.com/jlaffaye/ftp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// ftpStore is a folder on an FTP server.
type ftpStore struct {
	conn   *ftp.ServerConn
	folder string
}

func dialFTP(ctx context.Context, cfg site.Files, u *url.URL, box *connect.Box) (store, error) {
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "21")
	}
	var conf *tls.Config
	if u.Scheme == "ftps" {
		var err error
		if conf, err = box.ClientTLS(&site.ClientTLS{CA: cfg.CA}, u.Hostname()); err != nil {
			return nil, err
		}
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(4) // servers want the data connections to be of the session
	}
	opts := []ftp.DialOption{ftp.DialWithDialFunc(ftpDialer(ctx, conf)), ftp.DialWithShutTimeout(serverTimeout)}
	if conf != nil {
		opts = append(opts, ftp.DialWithExplicitTLS(conf))
	}
	password := ""
	if cfg.Password != "" {
		var err error
		if password, err = box.Secret(cfg.Password); err != nil {
			return nil, err
		}
	}
	conn, err := ftp.Dial(addr, opts...)
	if err != nil {
		return nil, err
	}
	if err := conn.Login(u.User.Username(), password); err != nil {
		_ = conn.Quit()
		return nil, fmt.Errorf("log in at %s: %w", addr, err)
	}
	return &ftpStore{conn, u.Path}, nil
}

// ftpDialer bounds what the library does not: how long a server may say
// nothing. With a dialer it encrypts only the first connection, that of the
// commands.
func ftpDialer(ctx context.Context, conf *tls.Config) func(network, addr string) (net.Conn, error) {
	first := true
	return func(network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: serverTimeout}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn = connect.Timed{Conn: conn, ReadWait: serverTimeout, WriteWait: serverTimeout}
		data := !first
		first = false
		if conf != nil && data {
			return tls.Client(conn, conf), nil
		}
		return conn, nil
	}
}

// ftpLost tells a broken connection from a server's answer.
func ftpLost(err error) error {
	var answer *textproto.Error
	if err == nil || errors.As(err, &answer) || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %v", errConnection, err)
}

func (s *ftpStore) Close() error { return s.conn.Quit() }

func (s *ftpStore) list() ([]file, error) {
	entries, err := s.conn.List(s.folder)
	if err != nil {
		return nil, ftpLost(err)
	}
	var all []file
	for _, e := range entries {
		if e.Type == ftp.EntryTypeFile && e.Name == path.Base(e.Name) {
			all = append(all, file{e.Name, int64(e.Size), e.Time})
		}
	}
	return all, nil
}

// openAt has the server begin there (REST, RFC 3659, 5).
func (s *ftpStore) openAt(name string, offset int64) (io.ReadCloser, error) {
	r, err := s.conn.RetrFrom(path.Join(s.folder, name), uint64(offset))
	if err != nil {
		return nil, ftpLost(err)
	}
	return r, nil
}

func (s *ftpStore) finish(name, archive string) error {
	from := path.Join(s.folder, name)
	if archive == "" {
		return ftpLost(s.conn.Delete(from))
	}
	if !path.IsAbs(archive) {
		archive = path.Join(s.folder, archive)
	}
	_ = s.conn.MakeDir(archive) // it may be there
	return ftpLost(s.conn.Rename(from, free(path.Join(archive, name), func(p string) bool { _, err := s.conn.FileSize(p); return err == nil })))
}
