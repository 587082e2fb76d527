// Package opcua is a client of an OPC UA server: it subscribes to variables,
// and has commands write them and call methods.
package opcua

import (
	"context"
	"fmt"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

const (
	requestTimeout = 10 * time.Second
	sessionTimeout = 10 * time.Minute // for which the server keeps subscriptions of a client that is away
	retryNodes     = time.Minute      // nodes that the server did not have
)

// Connector is the client of one server.
type Connector struct {
	cfg      site.OPCUA
	interval time.Duration
	points   []*point
	left     *subscription // of a connection that was lost, for the next
}

// point is a variable that is subscribed to.
type point struct {
	site.OPCUAPoint
	sampling  time.Duration
	exception *connect.Exception
}

// New prepares the client of an entry of the profile.
func New(cfg site.OPCUA) (connect.Connector, error) {
	c := &Connector{cfg: cfg}
	var err error
	if c.interval, err = time.ParseDuration(cfg.Interval); err != nil {
		return nil, fmt.Errorf("interval: %w", err)
	}
	for _, p := range cfg.Points {
		one := &point{OPCUAPoint: p, exception: connect.NewException(p.Report)}
		if one.sampling, err = time.ParseDuration(p.Sampling); err != nil {
			return nil, fmt.Errorf("point %s: sampling: %w", p.Name, err)
		}
		c.points = append(c.points, one)
	}
	return c, nil
}

// session is one connection to the server.
type session struct {
	*Connector
	box    *connect.Box
	client *opcua.Client
	spaces []string // namespaces, by number
}

// Run implements connect.Connector. It is one connection: the next one goes on
// with the subscription that the server still has, so that what was queued
// meanwhile comes. The library's own reconnection is not used: it closes the
// session that it has just taken up again (gopcua 0.8.0, ActivateSession).
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	client, err := c.dial(ctx, box)
	if err != nil {
		return err
	}
	s := &session{Connector: c, box: box, client: client}
	defer s.close(ctx)
	if s.spaces, err = client.NamespaceArray(ctx); err != nil {
		return fmt.Errorf("ask for the namespaces: %w", err)
	}
	sub, err := s.subscribe(ctx)
	if err != nil {
		if c.left != nil && client.Session() == c.left.at { // lost once more: not to be closed
			_, _ = client.DetachSession(ctx)
		}
		return err
	}
	box.Up(sub.summary())
	err = s.serve(ctx, sub)
	if ctx.Err() == nil && !sub.over { // the server keeps both for the next connection
		sub.at, _ = client.DetachSession(ctx)
		c.left = sub
	}
	return err
}

func (s *session) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = s.client.Close(ctx)
}

// serve ends when the server does not answer the question for news any more.
// What the library says of the connection's state is of no use: for it every
// status that is not good is a loss.
func (s *session) serve(ctx context.Context, sub *subscription) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- sub.publish(ctx) }()
	defer func() { cancel(); <-ended }()
	retry := time.NewTicker(retryNodes)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err
			return fmt.Errorf("connection to %s is lost: %w", s.cfg.Endpoint, err)
		case <-retry.C:
			if err := sub.monitor(ctx); err != nil {
				return err
			}
			sub.tell()
		case cmd := <-s.box.Commands():
			s.command(ctx, cmd)
		}
	}
}

// ask sends a request and waits for its answer.
func ask[R ua.Response](ctx context.Context, client *opcua.Client, wait time.Duration, req ua.Request) (res R, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = client.Send(ctx, req, func(v ua.Response) error {
		var ok bool
		if res, ok = v.(R); !ok {
			return fmt.Errorf("the server answers %T with %T", req, v)
		}
		if status := v.Header().ServiceResult; status != ua.StatusOK {
			return status
		}
		return nil
	})
	return res, err
}

// node parses an id of the profile.
func (s *session) node(id string) (*ua.NodeID, error) {
	e, err := ua.ParseExpandedNodeID(id, s.spaces)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w; the server's namespaces are %q", id, err, s.spaces)
	}
	return ua.NewNodeIDFromExpandedNodeID(e), nil
}
