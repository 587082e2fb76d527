package wifi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	answerWait = 5 * time.Second
	// openWait is how long the supplicant may take to make its socket.
	openWait = 20 * time.Second
	// maxMessage is more than the supplicant ever sends.
	maxMessage = 8 << 10
)

// errEnded says that the supplicant has ended by itself.
var errEnded = errors.New("wpa_supplicant has ended")

// control speaks to the supplicant over its control interface: a datagram is
// a command, its answer or, in between, an event.
type control struct {
	conn  *net.UnixConn
	own   string
	event func(string)
}

// open connects to socket, from a socket of our own beside it.
func open(socket string, event func(string)) (*control, error) {
	own := filepath.Join(filepath.Dir(filepath.Dir(socket)), "wayside")
	_ = os.Remove(own) // of a life before
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"}, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	c := &control{conn: conn, own: own, event: event}
	if answer, err := c.ask("ATTACH"); err != nil || answer != "OK\n" {
		c.close()
		return nil, fmt.Errorf("wpa_supplicant: listen to its events: %q, %v", answer, err)
	}
	return c, nil
}

func (c *control) close() {
	c.conn.Close()
	_ = os.Remove(c.own)
}

// ask sends a command and returns its answer.
func (c *control) ask(command string) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return "", err
	}
	if _, err := c.conn.Write([]byte(command)); err != nil {
		return "", err
	}
	for {
		text, err := c.read()
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(text, "<") {
			return text, nil
		}
		c.event(text)
	}
}

// listen hands on events until the time is over.
func (c *control) listen(d time.Duration) error {
	if err := c.conn.SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	for {
		text, err := c.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(text, "<") {
			c.event(text)
			if strings.Contains(text, "CTRL-EVENT-CONNECTED") || strings.Contains(text, "CTRL-EVENT-DISCONNECTED") {
				return nil // ask at once
			}
		}
	}
}

func (c *control) read() (string, error) {
	buf := make([]byte, maxMessage)
	n, err := c.conn.Read(buf)
	return string(buf[:n]), err
}

// watch follows the supplicant until it ends or does not answer any more.
func (s *Service) watch(ctx context.Context, socket string, ended <-chan error) error {
	c, err := s.connect(ctx, socket, ended)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		err := s.look(c)
		if err == nil {
			err = c.listen(s.every)
		}
		s.turn()
		if err == nil && ctx.Err() == nil {
			continue
		}
		// A socket that is gone says so before the process has ended.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case exit := <-ended:
			return fmt.Errorf("%w: %v", errEnded, exit)
		case <-time.After(time.Second):
			return fmt.Errorf("wpa_supplicant does not answer: %v", err)
		}
	}
}

// connect waits for the socket.
func (s *Service) connect(ctx context.Context, socket string, ended <-chan error) (*control, error) {
	late := time.NewTimer(openWait)
	defer late.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s.turn()
		c, err := open(socket, func(text string) { s.change(func(n *state) { n.event(text) }) })
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case exit := <-ended:
			return nil, fmt.Errorf("%w: %v; is %s a radio?", errEnded, exit, s.cfg.Wifi.Interface)
		case <-late.C:
			return nil, fmt.Errorf("wpa_supplicant opens no control socket: %v", err)
		case <-tick.C:
		}
	}
}

// look asks what the radio is doing, and for the signal while there is one.
func (s *Service) look(c *control) error {
	answer, err := c.ask("STATUS")
	if err != nil {
		return err
	}
	signal := 0
	if values(answer)["wpa_state"] == completed {
		poll, err := c.ask("SIGNAL_POLL")
		if err != nil {
			return err
		}
		signal, _ = strconv.Atoi(values(poll)["RSSI"])
	}
	s.change(func(n *state) {
		n.status(answer)
		n.signal = signal
	})
	return nil
}
