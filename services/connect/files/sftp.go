package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// remote is a folder on an SFTP server.
type remote struct {
	conn   net.Conn
	client *sftp.Client
	ssh    *ssh.Client
	folder string
}

func dialSFTP(ctx context.Context, cfg site.Files, u *url.URL, box *connect.Box) (store, error) {
	conf, err := sshConfig(cfg, u.User.Username(), box)
	if err != nil {
		return nil, err
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "22")
	}
	conn, err := (&net.Dialer{Timeout: serverTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	r := &remote{conn: conn, folder: u.Path}
	r.alive()
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, conf)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("log in at %s: %w", addr, err)
	}
	r.ssh = ssh.NewClient(c, chans, reqs)
	if r.client, err = sftp.NewClient(r.ssh); err != nil {
		r.ssh.Close()
		return nil, fmt.Errorf("open SFTP at %s: %w", addr, err)
	}
	return r, nil
}

func sshConfig(cfg site.Files, user string, box *connect.Box) (*ssh.ClientConfig, error) {
	known, err := box.Secret(cfg.HostKey)
	if err != nil {
		return nil, err
	}
	conf := &ssh.ClientConfig{User: user, HostKeyCallback: hostKeys([]byte(known)), Timeout: serverTimeout}
	if cfg.Key == "" {
		password, err := box.Secret(cfg.Password)
		if err != nil {
			return nil, err
		}
		conf.Auth = []ssh.AuthMethod{ssh.Password(password)}
		return conf, nil
	}
	text, err := box.Secret(cfg.Key)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey([]byte(text + "\n"))
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", cfg.Key, err)
	}
	conf.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
	return conf, nil
}

// hostKeys takes the keys of a file, whatever hosts it names: it is this
// server's.
func hostKeys(data []byte) ssh.HostKeyCallback {
	var keys []ssh.PublicKey
	for _, line := range bytes.Split(data, []byte("\n")) {
		if _, _, key, _, _, err := ssh.ParseKnownHosts(line); err == nil {
			keys = append(keys, key)
		} else if key, _, _, _, err := ssh.ParseAuthorizedKey(line); err == nil {
			keys = append(keys, key)
		}
	}
	return func(_ string, _ net.Addr, key ssh.PublicKey) error {
		for _, k := range keys {
			if bytes.Equal(k.Marshal(), key.Marshal()) {
				return nil
			}
		}
		return fmt.Errorf("the server's key %s %s is not among the %d of host_key: compare it and add it", key.Type(), ssh.FingerprintSHA256(key), len(keys))
	}
}

// alive gives the server time again; a stalled one ends the connection.
func (r *remote) alive() { _ = r.conn.SetDeadline(time.Now().Add(serverTimeout)) }

// lost tells a broken connection from a server's answer.
func lost(err error) error {
	var status *sftp.StatusError
	if err == nil || errors.As(err, &status) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %v", errConnection, err)
}

func (r *remote) Close() error { return errors.Join(r.client.Close(), r.ssh.Close()) }

func (r *remote) list() ([]file, error) {
	r.alive()
	infos, err := r.client.ReadDir(r.folder)
	if err != nil {
		return nil, lost(err)
	}
	var all []file
	for _, i := range infos {
		if i.Mode().IsRegular() {
			all = append(all, file{i.Name(), i.Size(), i.ModTime()})
		}
	}
	return all, nil
}

func (r *remote) openAt(name string, offset int64) (io.ReadCloser, error) {
	r.alive()
	f, err := r.client.Open(path.Join(r.folder, name))
	if err != nil {
		return nil, lost(err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, lost(err)
	}
	return remoteFile{f, r}, nil
}

type remoteFile struct {
	*sftp.File
	r *remote
}

func (f remoteFile) Read(p []byte) (int, error) {
	f.r.alive()
	n, err := f.File.Read(p)
	return n, lost(err)
}

func (r *remote) finish(name, archive string) error {
	r.alive()
	from := path.Join(r.folder, name)
	if archive == "" {
		return lost(r.client.Remove(from))
	}
	if !path.IsAbs(archive) {
		archive = path.Join(r.folder, archive)
	}
	if err := r.client.MkdirAll(archive); err != nil {
		return lost(err)
	}
	return lost(r.client.Rename(from, free(path.Join(archive, name), func(p string) bool { _, err := r.client.Lstat(p); return err == nil })))
}
