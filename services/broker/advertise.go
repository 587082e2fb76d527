package broker

import (
	"fmt"
	"net"
	"strconv"
)

// advertiser returns the function that names this broker to a client. A fixed
// address wins; otherwise a client is told the address it dialled, which is
// the one address known to work for it.
func advertiser(fixed string) (func(net.Conn) (string, int32), error) {
	if fixed == "" {
		return dialled, nil
	}
	host, port, err := splitHostPort(fixed)
	if err != nil {
		return nil, fmt.Errorf("advertised address %q: %v; want host:port", fixed, err)
	}
	return func(net.Conn) (string, int32) { return host, port }, nil
}

func dialled(conn net.Conn) (string, int32) {
	host, port, err := splitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "localhost", 9092 // not a TCP connection
	}
	return host, port
}

func splitHostPort(s string) (string, int32, error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("port %q is not in 1-65535", p)
	}
	if host == "" {
		return "", 0, fmt.Errorf("host is empty")
	}
	return host, int32(port), nil
}
