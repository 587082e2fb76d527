package mqttclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/waysideos/wayside/services/site"
)

// ackEvery is how often acknowledgements are sent.
const ackEvery = 10 * time.Millisecond

func shared(filter string) bool { return strings.HasPrefix(filter, "$share/") }

// link3 speaks MQTT 3.1.1.
type link3 struct {
	cl   mqtt.Client
	end  chan error
	once sync.Once
}

func (l *link3) lose(err error) { l.once.Do(func() { l.end <- err }) }

func dial3(ctx context.Context, o options) (link, error) {
	l := &link3{end: make(chan error, 1)}
	opts := mqtt.NewClientOptions().
		AddBroker("tcp://far"). // the name of nothing: open knows where
		SetClientID(o.id).SetProtocolVersion(4).SetCleanSession(o.session == 0).SetKeepAlive(o.keep).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(dialTimeout).SetWriteTimeout(answerTimeout).
		SetAutoAckDisabled(true).SetOrderMatters(true).SetMessageChannelDepth(window).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return o.open(ctx) }).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { l.lose(err) }).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { o.take(taken(m)) })
	if o.user != "" {
		opts.SetUsername(o.user).SetPassword(o.password)
	}
	l.cl = mqtt.NewClient(opts)
	if err := wait(ctx, l.cl.Connect()); err != nil {
		l.cl.Disconnect(0)
		return nil, err
	}
	return l, nil
}

func taken(m mqtt.Message) message {
	out := message{topic: m.Topic(), payload: m.Payload(), qos: m.Qos(), retained: m.Retained()}
	if m.Qos() > 0 {
		out.ack = m.Ack
	}
	return out
}

func wait(ctx context.Context, t mqtt.Token) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return errors.Join(errors.New("no answer"), ctx.Err())
	}
}

func (l *link3) subscribe(ctx context.Context, subs []site.MQTTSubscription) error {
	filters := map[string]byte{}
	for _, s := range subs {
		filters[s.Filter] = byte(*s.QoS)
	}
	t := l.cl.SubscribeMultiple(filters, nil)
	if err := wait(ctx, t); err != nil {
		return err
	}
	for filter, code := range t.(*mqtt.SubscribeToken).Result() {
		if code >= 0x80 {
			return fmt.Errorf("%s is refused", filter)
		}
	}
	return nil
}

func (l *link3) publish(ctx context.Context, ms []outgoing) error {
	ts := make([]mqtt.Token, len(ms))
	for i, m := range ms {
		ts[i] = l.cl.Publish(m.topic, m.qos, m.retain, m.payload)
	}
	for _, t := range ts {
		if err := wait(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (l *link3) lost() <-chan error { return l.end }

func (l *link3) close() {
	l.cl.Disconnect(250) // milliseconds to finish what is begun
	l.lose(errors.New("closed"))
}
