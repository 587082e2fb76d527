// Package http is a web server whose requests become records: the REST
// interface that Kafka users know, plain posts, and webhooks.
package http

import (
	"context"
	"errors"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// Connector is one web server.
type Connector struct{ cfg site.HTTP }

// New prepares the server of an entry of the profile.
func New(cfg site.HTTP) (connect.Connector, error) { return &Connector{cfg: cfg}, nil }

// Run implements connect.Connector.
func (c *Connector) Run(context.Context, *connect.Box) error { return errors.New("not there yet") }
