package opcua

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
)

// command writes a point, or calls the method that has that name.
func (s *session) command(ctx context.Context, cmd connect.Command) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, m := range s.cfg.Methods {
		if m.Name == cmd.Point {
			cmd.Result(s.call(ctx, m.Object, m.Method, cmd))
			return
		}
	}
	for _, p := range s.points {
		if p.Name == cmd.Point {
			cmd.Result(s.write(ctx, p, cmd.Value))
			return
		}
	}
	cmd.Answer(fmt.Errorf("no point and no method is called %q", cmd.Point))
}

// write sets a variable and returns what the server has then.
func (s *session) write(ctx context.Context, p *point, value any) (any, error) {
	node, err := s.node(p.Node)
	if err != nil {
		return nil, err
	}
	typ, list, err := s.typeOf(ctx, node)
	if err != nil {
		return nil, err
	}
	v, err := variantOf(value, typ, list)
	if err != nil {
		return nil, err
	}
	res, err := s.client.Write(ctx, &ua.WriteRequest{NodesToWrite: []*ua.WriteValue{{
		NodeID: node, AttributeID: ua.AttributeIDValue, Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: v},
	}}})
	switch {
	case err != nil:
		return nil, fmt.Errorf("write: %w", err)
	case len(res.Results) != 1:
		return nil, errors.New("write: the server's answer has no result")
	case res.Results[0] != ua.StatusOK:
		return nil, fmt.Errorf("write: %w", res.Results[0])
	}
	back, err := s.client.Node(node).Value(ctx)
	if err != nil {
		return nil, fmt.Errorf("written, but cannot be read back: %w", err)
	}
	return valueOf(back), nil
}

// typeOf is the type that a variable takes, by its value or, where it has
// none, by its declared type.
func (s *session) typeOf(ctx context.Context, node *ua.NodeID) (ua.TypeID, bool, error) {
	v, err := s.client.Node(node).Value(ctx)
	if err == nil && v != nil && v.Type() != ua.TypeIDNull {
		return v.Type(), v.Has(ua.VariantArrayValues), nil
	}
	declared, err := s.client.Node(node).Attribute(ctx, ua.AttributeIDDataType)
	if err != nil {
		return 0, false, fmt.Errorf("ask for the type of %s: %w", node, err)
	}
	t, ok := declared.Value().(*ua.NodeID)
	if !ok || t.Namespace() != 0 || t.IntID() == 0 || t.IntID() > id.LocalizedText {
		return 0, false, fmt.Errorf("%s has a type of the server's own, which cannot be written", node)
	}
	return ua.TypeID(t.IntID()), false, nil
}

// call calls a method with the command's "args", and returns what it gives
// back: nothing, one value, or a list.
func (s *session) call(ctx context.Context, object, method string, cmd connect.Command) (any, error) {
	obj, err := s.node(object)
	if err != nil {
		return nil, err
	}
	met, err := s.node(method)
	if err != nil {
		return nil, err
	}
	args, err := s.arguments(ctx, met, cmd)
	if err != nil {
		return nil, err
	}
	res, err := s.client.Call(ctx, &ua.CallMethodRequest{ObjectID: obj, MethodID: met, InputArguments: args})
	if err != nil {
		return nil, fmt.Errorf("call: %w", err)
	}
	if res.StatusCode != ua.StatusOK {
		return nil, fmt.Errorf("call: %w", res.StatusCode)
	}
	out := make([]any, len(res.OutputArguments))
	for i, v := range res.OutputArguments {
		out[i] = valueOf(v)
	}
	switch len(out) {
	case 0:
		return nil, nil
	case 1:
		return out[0], nil
	}
	return out, nil
}

// arguments converts the command's args to what the method declares.
func (s *session) arguments(ctx context.Context, method *ua.NodeID, cmd connect.Command) ([]*ua.Variant, error) {
	var body struct {
		Args []any `json:"args"`
	}
	d := json.NewDecoder(bytes.NewReader(cmd.JSON))
	d.UseNumber()
	if err := d.Decode(&body); err != nil {
		return nil, fmt.Errorf("args: %w", err)
	}
	declared, err := s.declared(ctx, method)
	if err != nil {
		return nil, err
	}
	if len(declared) != len(body.Args) {
		return nil, fmt.Errorf("the method takes %d args, got %d", len(declared), len(body.Args))
	}
	args := make([]*ua.Variant, len(declared))
	for i, a := range declared {
		if a.DataType == nil || a.DataType.Namespace() != 0 {
			return nil, fmt.Errorf("arg %s has a type of the server's own", a.Name)
		}
		if args[i], err = variantOf(body.Args[i], ua.TypeID(a.DataType.IntID()), a.ValueRank >= 0); err != nil {
			return nil, fmt.Errorf("arg %s: %w", a.Name, err)
		}
	}
	return args, nil
}

// declared are a method's input arguments (part 3, 5.7): a property of it.
func (s *session) declared(ctx context.Context, method *ua.NodeID) ([]*ua.Argument, error) {
	refs, err := s.client.Node(method).References(ctx, id.HasProperty, ua.BrowseDirectionForward, ua.NodeClassVariable, true)
	if err != nil {
		return nil, fmt.Errorf("ask for the method's args: %w", err)
	}
	for _, r := range refs {
		if r.BrowseName.Name != "InputArguments" {
			continue
		}
		v, err := s.client.NodeFromExpandedNodeID(r.NodeID).Value(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask for the method's args: %w", err)
		}
		objects, _ := v.Value().([]*ua.ExtensionObject)
		var all []*ua.Argument
		for _, o := range objects {
			if a, ok := o.Value.(*ua.Argument); ok {
				all = append(all, a)
			}
		}
		return all, nil
	}
	return nil, nil
}
