package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterReplicaLogDirs: takes the one directory of logs, where every partition
// is, and refuses others.
//
// For tools that name the directories in what they reassign.
var alterReplicaLogDirsAPI = api{key: kmsg.AlterReplicaLogDirs, min: 1, max: 2, handle: typed(handleAlterReplicaLogDirs)}

func handleAlterReplicaLogDirs(s *Server, _ context.Context, r *request, req *kmsg.AlterReplicaLogDirsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AlterReplicaLogDirsResponse)
	refused := s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeCluster, clusterName)
	for _, dir := range req.Dirs {
		for _, rt := range dir.Topics {
			t := s.Catalog.Get(rt.Topic)
			st := kmsg.AlterReplicaLogDirsResponseTopic{Topic: rt.Topic}
			for _, part := range rt.Partitions {
				_, err := logOf(t, part)
				if err == nil && dir.Dir != logDir {
					err = kerr.LogDirNotFound
				}
				if refused != nil {
					err = refused
				}
				st.Partitions = append(st.Partitions, kmsg.AlterReplicaLogDirsResponseTopicPartition{Partition: part, ErrorCode: code(err)})
			}
			resp.Topics = append(resp.Topics, st)
		}
	}
	return resp
}
