package opcua

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
)

// Limits of a browse: address spaces may have cycles, and millions of nodes.
const (
	browseDepth = 12
	browseNodes = 5000
)

// Browse implements connect.Browser: all variables below Objects but those of
// the server itself, as points.
func (c *Connector) Browse(ctx context.Context, box *connect.Box, w io.Writer) error {
	client, err := c.dial(ctx, box)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	b := browser{client: client, w: w, seen: map[string]bool{}}
	fmt.Fprintf(w, "# variables of %s\npoints:\n", c.cfg.Endpoint)
	if err := b.below(ctx, ua.NewNumericNodeID(0, id.ObjectsFolder), "", 0); err != nil {
		return err
	}
	if b.count >= browseNodes {
		fmt.Fprintf(w, "# there are more: only the first %d nodes were looked at\n", browseNodes)
	}
	return nil
}

type browser struct {
	client *opcua.Client
	w      io.Writer
	seen   map[string]bool
	count  int
}

func (b *browser) below(ctx context.Context, node *ua.NodeID, path string, depth int) error {
	if depth > browseDepth || b.seen[node.String()] {
		return nil
	}
	b.seen[node.String()] = true
	refs, err := b.client.Node(node).References(ctx, id.HierarchicalReferences, ua.BrowseDirectionForward, ua.NodeClassObject|ua.NodeClassVariable, true)
	if err != nil {
		return fmt.Errorf("browse %s: %w", node, err)
	}
	for _, r := range refs {
		child := ua.NewNodeIDFromExpandedNodeID(r.NodeID)
		if b.count >= browseNodes || (child.Namespace() == 0 && child.IntID() == id.Server) {
			continue
		}
		b.count++
		name := strings.TrimPrefix(path+"."+r.BrowseName.Name, ".")
		if r.NodeClass == ua.NodeClassVariable && !b.seen[child.String()] {
			if err := b.variable(ctx, child, name); err != nil {
				return err
			}
		}
		if err := b.below(ctx, child, name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// variable writes one as a point, with the value that it has now.
func (b *browser) variable(ctx context.Context, node *ua.NodeID, name string) error {
	now := "?"
	if v, err := b.client.Node(node).Value(ctx); err == nil {
		now = fmt.Sprint(valueOf(v))
	}
	if r := []rune(now); len(r) > 40 {
		now = string(r[:40]) + "…"
	}
	_, err := fmt.Fprintf(b.w, "  - {name: %s, node: %s} # now %s\n", strconv.Quote(name), strconv.Quote(node.String()), strings.Join(strings.Fields(now), " "))
	return err
}
