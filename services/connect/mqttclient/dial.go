package mqttclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second
	// window is how many messages may be on their way to the box's broker:
	// the Receive Maximum of MQTT 5.
	window = 256
	// maxMessage is the largest message taken, in bytes; as a record it fits a
	// batch.
	maxMessage = 1000000
)

// message is one that came.
type message struct {
	topic    string
	payload  []byte
	qos      byte
	retained bool
	headers  []connect.Header // what else MQTT 5 says of it
	ack      func()           // once it is on disk; nil for QoS 0
}

// outgoing is one that goes.
type outgoing struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
}

// link is one connection to the broker. Its end is told on lost.
type link interface {
	subscribe(ctx context.Context, subs []site.MQTTSubscription) error
	// publish sends messages in order and returns when all are acknowledged
	// as their QoS has it.
	publish(ctx context.Context, ms []outgoing) error
	lost() <-chan error
	close()
}

// dial opens a connection.
func (c *Connector) dial(ctx context.Context, box *connect.Box, take func(message)) (link, error) {
	o := options{
		id: c.clientID(box), user: c.cfg.User, keep: c.keep, session: c.session, take: take,
		open: func(ctx context.Context) (net.Conn, error) { return c.open(ctx, box) },
	}
	if c.cfg.Password != "" {
		var err error
		if o.password, err = box.Secret(c.cfg.Password); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+answerTimeout)
	defer cancel()
	dial := dial5
	if c.cfg.Version == "3.1.1" {
		dial = dial3
	}
	l, err := dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.cfg.Address, err)
	}
	return l, nil
}

func (c *Connector) clientID(box *connect.Box) string {
	return cmp.Or(c.cfg.ClientID, "wayside-"+box.Site()+"-"+box.Name())
}

// aside is a client that takes nothing from the box's own: it has a name and a
// session of its own, shares no subscription, and publishes nothing.
func (c *Connector) aside(box *connect.Box, what string) *Connector {
	own := *c
	own.session, own.cfg.Publish, own.cfg.Subscribe = 0, nil, nil
	own.cfg.ClientID = c.clientID(box) + "-" + what
	for _, s := range c.cfg.Subscribe {
		if rest, ok := strings.CutPrefix(s.Filter, "$share/"); ok {
			_, s.Filter, _ = strings.Cut(rest, "/")
		}
		own.cfg.Subscribe = append(own.cfg.Subscribe, s)
	}
	return &own
}

// options are those of a connection, of whichever version.
type options struct {
	id, user, password string
	keep, session      time.Duration
	take               func(message)
	open               func(context.Context) (net.Conn, error)
}

func (c *Connector) open(ctx context.Context, box *connect.Box) (net.Conn, error) {
	u, err := url.Parse(c.cfg.Address)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		if port = "1883"; u.Scheme == "mqtts" {
			port = "8883"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "mqtts" {
		return raw, err
	}
	conf, err := box.ClientTLS(c.cfg.TLS, u.Hostname())
	if err != nil {
		raw.Close()
		return nil, err
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return conn, nil
}
