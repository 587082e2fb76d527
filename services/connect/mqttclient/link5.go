package mqttclient

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// link5 speaks MQTT 5.
type link5 struct {
	cl   *paho.Client
	end  chan error
	once sync.Once
}

func (l *link5) lose(err error) { l.once.Do(func() { l.end <- err }) }

func dial5(ctx context.Context, o options) (link, error) {
	conn, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	// A broker that takes nothing would hold Run for ever: the library sets no limit.
	timed := connect.Timed{Conn: conn, WriteWait: answerTimeout}
	l := &link5{end: make(chan error, 1)}
	l.cl = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(timed), ClientID: o.id, PacketTimeout: answerTimeout,
		EnableManualAcknowledgment: true, SendAcksInterval: ackEvery,
		OnClientError:      l.lose,
		OnServerDisconnect: func(d *paho.Disconnect) { l.lose(fmt.Errorf("the broker has ended it, reason %#x", d.ReasonCode)) },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			o.take(l.message(p.Packet))
			return true, nil
		}},
	})
	max, largest := uint16(window), uint32(maxMessage)
	expiry := uint32(o.session.Seconds())
	c := &paho.Connect{
		ClientID: o.id, KeepAlive: uint16(o.keep.Seconds()), CleanStart: expiry == 0,
		Properties: &paho.ConnectProperties{ReceiveMaximum: &max, MaximumPacketSize: &largest, SessionExpiryInterval: &expiry},
	}
	if o.user != "" {
		c.Username, c.UsernameFlag = o.user, true
	}
	if o.password != "" {
		c.Password, c.PasswordFlag = []byte(o.password), true
	}
	ack, err := l.cl.Connect(ctx, c)
	if err != nil {
		conn.Close()
		if ack != nil {
			return nil, fmt.Errorf("refused, reason %#x %s", ack.ReasonCode, reason(ack.Properties))
		}
		return nil, err
	}
	return l, nil
}

func reason(p *paho.ConnackProperties) string {
	if p == nil {
		return ""
	}
	return p.ReasonString
}

func (l *link5) message(p *paho.Publish) message {
	m := message{topic: p.Topic, payload: p.Payload, qos: p.QoS, retained: p.Retain}
	if p.QoS > 0 {
		m.ack = func() {
			if err := l.cl.Ack(p); err != nil {
				l.lose(err)
			}
		}
	}
	add := func(given bool, key, value string) {
		if given {
			m.headers = append(m.headers, connect.Header{Key: key, Value: []byte(value)})
		}
	}
	if v := p.Properties; v != nil {
		add(v.ContentType != "", "mqtt.content-type", v.ContentType)
		add(v.ResponseTopic != "", "mqtt.response-topic", v.ResponseTopic)
		add(len(v.CorrelationData) > 0, "mqtt.correlation-data", string(v.CorrelationData))
		for _, u := range v.User {
			add(true, "mqtt.user."+u.Key, u.Value)
		}
	}
	return m
}

// subscribe asks for nothing back that this client publishes (3.8.3.1), which
// shared subscriptions do not know.
func (l *link5) subscribe(ctx context.Context, subs []site.MQTTSubscription) error {
	s := &paho.Subscribe{}
	for _, f := range subs {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{
			Topic: f.Filter, QoS: byte(*f.QoS), NoLocal: !shared(f.Filter), RetainAsPublished: true,
		})
	}
	ack, err := l.cl.Subscribe(ctx, s)
	if ack != nil {
		for i, code := range ack.Reasons {
			if code >= 0x80 && i < len(subs) {
				return fmt.Errorf("%s is refused, reason %#x", subs[i].Filter, code)
			}
		}
	}
	return err
}

func (l *link5) publish(ctx context.Context, ms []outgoing) error {
	for _, m := range ms {
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		res, err := l.cl.Publish(ctx, &paho.Publish{Topic: m.topic, Payload: m.payload, QoS: m.qos, Retain: m.retain})
		cancel()
		if res != nil && res.ReasonCode >= 0x80 {
			return fmt.Errorf("message for %s is refused, reason %#x", m.topic, res.ReasonCode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *link5) lost() <-chan error { return l.end }

func (l *link5) close() {
	_ = l.cl.Disconnect(&paho.Disconnect{ReasonCode: 0})
	l.lose(errors.New("closed"))
	<-l.cl.Done()
}
