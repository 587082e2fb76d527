package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: this broker's address and the cluster's id.
//
// Only the endpoint of brokers is served; the one broker is its own
// controller and never fenced.
var describeClusterAPI = api{key: kmsg.DescribeCluster, min: 0, max: 2, handle: typed(handleDescribeCluster)}

const brokersEndpoint = 1

func handleDescribeCluster(s *Server, _ context.Context, r *request, req *kmsg.DescribeClusterRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.EndpointType = brokersEndpoint
	resp.ClusterAuthorizedOperations = noAuthorizedOperations
	if req.Version >= 1 && req.EndpointType != brokersEndpoint {
		err := fmt.Errorf("%w: this is an endpoint of brokers", kerr.MismatchedEndpointType)
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	resp.ClusterID, resp.ControllerID = s.Meta.ClusterID(), NodeID
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = s.authorizedOperations(r, kmsg.ACLResourceTypeCluster, clusterName)
	}
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = NodeID
	b.Host, b.Port = s.advertise(r)
	resp.Brokers = append(resp.Brokers, b)
	return resp
}
