package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: this broker's address and the cluster's id.
//
// Versions 0 to 1.
var describeClusterAPI = api{key: kmsg.DescribeCluster, min: 0, max: 1, handle: typed(handleDescribeCluster)}

const brokersEndpoint = 1

func handleDescribeCluster(s *Server, _ context.Context, r *request, req *kmsg.DescribeClusterRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.EndpointType = brokersEndpoint
	resp.ClusterID, resp.ControllerID = s.Meta.ClusterID(), NodeID
	resp.ClusterAuthorizedOperations = noAuthorizedOperations
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = NodeID
	b.Host, b.Port = s.Advertise(r.conn)
	resp.Brokers = append(resp.Brokers, b)
	return resp
}
