package opcua

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// plc is a server whose channels and sessions are the library's. Its
// subscriptions are its own: they queue, outlive connections, are published
// again and transferred, as part 4 has it and the library's do not.
type plc struct {
	addr string
	srv  *server.Server

	mu      sync.Mutex
	last    uint32
	subs    map[uint32]*plcSub
	waiting []plcPublish
	values  map[string]*ua.DataValue // by node
}

type plcSub struct {
	id, seq uint32
	owner   string // token of its session
	every   time.Duration
	due     time.Time
	alive   time.Time // when it has to say that it is there
	quiet   time.Duration
	items   []*plcItem
	sent    map[uint32]*ua.NotificationMessage
}

type plcItem struct {
	node   string
	handle uint32
	most   int
	queue  []*ua.DataValue
}

// plcPublish is a question that is not answered yet.
type plcPublish struct {
	sc     *uasc.SecureChannel
	id     uint32
	header *ua.RequestHeader
}

// thePLC is one for all tests: making its address space takes a while. It
// ends with the process.
var thePLC = sync.OnceValue(func() *plc {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	p := &plc{addr: ln.Addr().String(), subs: map[uint32]*plcSub{}, values: map[string]*ua.DataValue{}}
	ln.Close()
	_, port, _ := net.SplitHostPort(p.addr)
	n, _ := strconv.Atoi(port)
	p.srv = server.New(server.EndPoint("127.0.0.1", n), server.EnableSecurity("None", ua.MessageSecurityModeNone),
		server.EnableAuthMode(ua.UserTokenTypeAnonymous), server.SetLogger(slog.New(slog.DiscardHandler)))
	p.handle(id.GetEndpointsRequest_Encoding_DefaultBinary, p.endpoints)
	p.handle(id.CreateSubscriptionRequest_Encoding_DefaultBinary, p.create)
	p.handle(id.CreateMonitoredItemsRequest_Encoding_DefaultBinary, p.monitor)
	p.handle(id.PublishRequest_Encoding_DefaultBinary, p.publish)
	p.handle(id.RepublishRequest_Encoding_DefaultBinary, p.republish)
	p.handle(id.TransferSubscriptionsRequest_Encoding_DefaultBinary, p.transfer)
	if err := p.srv.Start(context.Background()); err != nil {
		panic(err)
	}
	go func() {
		for range time.Tick(2 * time.Millisecond) {
			p.serve(time.Now())
		}
	}()
	return p
})

type plcHandler func(sc *uasc.SecureChannel, reqID uint32, r ua.Request) (ua.Response, error)

func (p *plc) handle(service uint16, h plcHandler) {
	p.srv.RegisterHandler(service, func(sc *uasc.SecureChannel, r ua.Request, reqID uint32) (ua.Response, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return h(sc, reqID, r)
	})
}

func answer(h *ua.RequestHeader) *ua.ResponseHeader {
	return &ua.ResponseHeader{
		Timestamp: time.Now(), RequestHandle: h.RequestHandle, ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{},
		AdditionalHeader: ua.NewExtensionObject(nil),
	}
}

func token(h *ua.RequestHeader) string { return h.AuthenticationToken.String() }

// endpoints are the same by every name that the server is asked by.
func (p *plc) endpoints(_ *uasc.SecureChannel, _ uint32, r ua.Request) (ua.Response, error) {
	return &ua.GetEndpointsResponse{ResponseHeader: answer(r.Header()), Endpoints: p.srv.Endpoints()}, nil
}

func (p *plc) create(_ *uasc.SecureChannel, _ uint32, r ua.Request) (ua.Response, error) {
	req := r.(*ua.CreateSubscriptionRequest)
	p.last++
	every := time.Duration(req.RequestedPublishingInterval * 1e6)
	s := &plcSub{id: p.last, owner: token(req.RequestHeader), every: every, quiet: every * time.Duration(req.RequestedMaxKeepAliveCount), sent: map[uint32]*ua.NotificationMessage{}}
	s.alive = time.Now().Add(s.quiet)
	p.subs[s.id] = s
	return &ua.CreateSubscriptionResponse{
		ResponseHeader: answer(req.RequestHeader), SubscriptionID: s.id, RevisedPublishingInterval: req.RequestedPublishingInterval,
		RevisedLifetimeCount: req.RequestedLifetimeCount, RevisedMaxKeepAliveCount: req.RequestedMaxKeepAliveCount,
	}, nil
}

func (p *plc) monitor(_ *uasc.SecureChannel, _ uint32, r ua.Request) (ua.Response, error) {
	req := r.(*ua.CreateMonitoredItemsRequest)
	s := p.subs[req.SubscriptionID]
	if s == nil {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	res := &ua.CreateMonitoredItemsResponse{ResponseHeader: answer(req.RequestHeader), DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for i, item := range req.ItemsToCreate {
		result := &ua.MonitoredItemCreateResult{MonitoredItemID: uint32(i + 1), FilterResult: ua.NewExtensionObject(nil)}
		node := item.ItemToMonitor.NodeID.String()
		if now, known := p.values[node]; known {
			s.items = append(s.items, &plcItem{node: node, handle: item.RequestedParameters.ClientHandle, most: int(item.RequestedParameters.QueueSize), queue: []*ua.DataValue{now}})
		} else {
			result.StatusCode = ua.StatusBadNodeIDUnknown
		}
		res.Results = append(res.Results, result)
	}
	return res, nil
}

func (p *plc) publish(sc *uasc.SecureChannel, reqID uint32, r ua.Request) (ua.Response, error) {
	req := r.(*ua.PublishRequest)
	if p.srv.Session(req.RequestHeader) == nil {
		return nil, ua.StatusBadSessionIDInvalid
	}
	for _, a := range req.SubscriptionAcknowledgements {
		if s := p.subs[a.SubscriptionID]; s != nil {
			delete(s.sent, a.SequenceNumber)
		}
	}
	kept := p.waiting[:0]
	for _, w := range p.waiting { // questions of a connection that is gone are nobody's
		if token(w.header) != token(req.RequestHeader) || w.sc == sc {
			kept = append(kept, w)
		}
	}
	p.waiting = append(kept, plcPublish{sc, reqID, req.RequestHeader})
	return nil, nil
}

func (p *plc) republish(_ *uasc.SecureChannel, _ uint32, r ua.Request) (ua.Response, error) {
	req := r.(*ua.RepublishRequest)
	s := p.subs[req.SubscriptionID]
	if s == nil || s.owner != token(req.RequestHeader) {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	m := s.sent[req.RetransmitSequenceNumber]
	if m == nil {
		return nil, ua.StatusBadMessageNotAvailable
	}
	return &ua.RepublishResponse{ResponseHeader: answer(req.RequestHeader), NotificationMessage: m}, nil
}

func (p *plc) transfer(_ *uasc.SecureChannel, _ uint32, r ua.Request) (ua.Response, error) {
	req := r.(*ua.TransferSubscriptionsRequest)
	res := &ua.TransferSubscriptionsResponse{ResponseHeader: answer(req.RequestHeader), DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for _, id := range req.SubscriptionIDs {
		result := &ua.TransferResult{StatusCode: ua.StatusBadSubscriptionIDInvalid, AvailableSequenceNumbers: []uint32{}}
		if s := p.subs[id]; s != nil {
			s.owner, result.StatusCode = token(req.RequestHeader), ua.StatusOK
		}
		res.Results = append(res.Results, result)
	}
	return res, nil
}

// set gives a node a value, which goes into the queues of who watches it.
func (p *plc) set(node string, value any) {
	v := &ua.DataValue{
		EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp, Value: ua.MustVariant(value), SourceTimestamp: time.Now(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.values[node] = v
	for _, s := range p.subs {
		for _, i := range s.items {
			if i.node != node {
				continue
			}
			if i.queue = append(i.queue, v); len(i.queue) > max(1, i.most) {
				i.queue = i.queue[1:]
				first := *i.queue[0]
				first.EncodingMask |= ua.DataValueStatusCode
				first.Status |= overflow
				i.queue[0] = &first
			}
		}
	}
}

// serve answers questions for which there is news.
func (p *plc) serve(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.subs {
		if now.Before(s.due) {
			continue
		}
		s.due = now.Add(s.every)
		at := -1
		for i, w := range p.waiting {
			if token(w.header) == s.owner {
				at = i
			}
		}
		if at < 0 {
			continue
		}
		w := p.waiting[at]
		if p.srv.Session(w.header) == nil {
			p.waiting = append(p.waiting[:at:at], p.waiting[at+1:]...)
			continue
		}
		m := s.news()
		if m == nil && now.Before(s.alive) {
			continue
		}
		if m == nil {
			m = &ua.NotificationMessage{SequenceNumber: s.seq + 1, PublishTime: now, NotificationData: []*ua.ExtensionObject{}}
		}
		s.alive = now.Add(s.quiet)
		p.waiting = append(p.waiting[:at:at], p.waiting[at+1:]...)
		_ = w.sc.SendResponseWithContext(context.Background(), w.id, &ua.PublishResponse{ // or it is published again
			ResponseHeader: answer(w.header), SubscriptionID: s.id, NotificationMessage: m,
			AvailableSequenceNumbers: []uint32{}, Results: []ua.StatusCode{}, DiagnosticInfos: []*ua.DiagnosticInfo{},
		})
	}
}

func (s *plcSub) news() *ua.NotificationMessage {
	d := &ua.DataChangeNotification{DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for _, i := range s.items {
		for _, v := range i.queue {
			d.MonitoredItems = append(d.MonitoredItems, &ua.MonitoredItemNotification{ClientHandle: i.handle, Value: v})
		}
		i.queue = nil
	}
	if len(d.MonitoredItems) == 0 {
		return nil
	}
	s.seq++
	m := &ua.NotificationMessage{SequenceNumber: s.seq, PublishTime: time.Now(), NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(d)}}
	s.sent[s.seq] = m
	return m
}

// forget ends subscriptions, as a server does that was started again.
func (p *plc) forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, s := range p.subs {
		for _, i := range s.items {
			if i.node == node {
				delete(p.subs, id)
			}
		}
	}
}

// endSessions ends those that watch a node, and not their subscriptions: as
// when a session's time is over.
func (p *plc) endSessions(t *testing.T, node string) {
	t.Helper()
	p.mu.Lock()
	var tokens []*ua.NodeID
	for _, s := range p.subs {
		for _, i := range s.items {
			if id, err := ua.ParseNodeID(s.owner); err == nil && i.node == node {
				tokens = append(tokens, id)
			}
		}
	}
	p.mu.Unlock()
	cl, err := opcua.NewClient("opc.tcp://" + p.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.Dial(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer cl.Close(t.Context())
	for _, id := range tokens {
		if err := cl.SecureChannel().SendRequest(t.Context(), &ua.CloseSessionRequest{}, id, func(ua.Response) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

var nodes = struct {
	sync.Mutex
	n int
}{}

// freeNode is a node of the server that no other test has.
func freeNode() string {
	nodes.Lock()
	defer nodes.Unlock()
	nodes.n++
	return fmt.Sprintf("ns=1;s=value%d", nodes.n)
}

// onPLC is a node of the server behind a cable.
type onPLC struct {
	*connecttest.Cable
	plc  *plc
	node string
}

func newOnPLC(t *testing.T) *onPLC {
	p := thePLC()
	return &onPLC{Cable: connecttest.NewCable(t, p.addr), plc: p, node: freeNode()}
}

func (o *onPLC) Start() {
	o.plc.mu.Lock()
	_, known := o.plc.values[o.node]
	o.plc.mu.Unlock()
	if !known {
		o.plc.set(o.node, int64(-1)) // which is no value of the suite
	}
	o.Plug()
}

func (o *onPLC) Stop() { o.Cut() }

func (o *onPLC) Emit(v int64) error {
	o.plc.set(o.node, v)
	return nil
}
