// Package opcua is a client of an OPC UA server: it subscribes to variables,
// and has commands write them and call methods.
package opcua

import (
	"context"
	"errors"
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
	reconnectEvery = 2 * time.Second
	retryNodes     = time.Minute // nodes that the server did not have
)

// Connector is the client of one server.
type Connector struct {
	cfg      site.OPCUA
	interval time.Duration
	points   []*point
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

// Run implements connect.Connector. The library repairs a lost connection by
// itself and takes the session up again with its subscriptions, so that what
// the server has queued meanwhile still comes. A server that forgot the session
// ends Run: what the library makes anew then has been seen to stay silent.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	states := make(chan opcua.ConnState, 16)
	client, err := c.dial(ctx, box, states)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = client.Close(ctx)
	}()
	s := &session{Connector: c, box: box, client: client}
	if s.spaces, err = client.NamespaceArray(ctx); err != nil {
		return fmt.Errorf("ask for the namespaces: %w", err)
	}
	sub, err := s.subscribe(ctx)
	if err != nil {
		return err
	}
	defer sub.close(ctx)
	box.Up(sub.summary())
	return s.serve(ctx, sub, states)
}

func (s *session) serve(ctx context.Context, sub *subscription, states <-chan opcua.ConnState) error {
	retry := time.NewTicker(retryNodes)
	defer retry.Stop()
	first := s.client.Session()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-sub.notes:
			if err := s.note(sub, n); err != nil {
				return err
			}
		case state := <-states:
			switch state {
			case opcua.Connected:
				if s.client.Session() != first {
					return errors.New("the server has forgotten the session")
				}
				s.box.Up(sub.summary())
			case opcua.Closed:
				return errors.New("the server has closed the connection for good")
			case opcua.Disconnected, opcua.Reconnecting:
				s.box.Trouble(errors.New("the connection is lost, trying again"))
			}
		case <-retry.C:
			if err := sub.monitor(ctx); err != nil {
				return err
			}
		case cmd := <-s.box.Commands():
			s.command(ctx, cmd)
		}
	}
}

// note takes what the server publishes.
func (s *session) note(sub *subscription, n *opcua.PublishNotificationData) error {
	if n.Error != nil {
		if errors.Is(n.Error, ua.StatusBadSubscriptionIDInvalid) || errors.Is(n.Error, ua.StatusBadNoSubscription) {
			return fmt.Errorf("the server has lost the subscription: %w", n.Error)
		}
		s.box.Trouble(n.Error)
		return nil
	}
	switch v := n.Value.(type) {
	case *ua.DataChangeNotification:
		return s.box.Readings(sub.readings(v, time.Now())...)
	case *ua.StatusChangeNotification:
		if v.Status != ua.StatusOK && v.Status != ua.StatusGoodSubscriptionTransferred {
			return fmt.Errorf("the server ends the subscription: %w", v.Status)
		}
	}
	return nil
}

// node parses an id of the profile.
func (s *session) node(id string) (*ua.NodeID, error) {
	e, err := ua.ParseExpandedNodeID(id, s.spaces)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w; the server's namespaces are %q", id, err, s.spaces)
	}
	return ua.NewNodeIDFromExpandedNodeID(e), nil
}
