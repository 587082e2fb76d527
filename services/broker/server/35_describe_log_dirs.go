package server

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// DescribeLogDirs: how much disk each partition takes, and how much there is.
//
// There is one directory of logs. Usable bytes are those that records may
// still take: the reserve for commits and administration is not among them.
var describeLogDirsAPI = api{key: kmsg.DescribeLogDirs, min: 1, max: 5, handle: typed(handleDescribeLogDirs)}

// logDir is the directory of all logs, within the broker's own.
const logDir = "topics"

func handleDescribeLogDirs(s *Server, _ context.Context, r *request, req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = logDir
	if s.Disk != nil {
		dir.UsableBytes, dir.TotalBytes = s.Disk()
	}
	if req.Topics == nil {
		for _, t := range s.Catalog.All() {
			dir.Topics = append(dir.Topics, logSizes(t, nil))
		}
	}
	for _, rt := range req.Topics {
		if t := s.Catalog.Get(rt.Topic); t != nil {
			dir.Topics = append(dir.Topics, logSizes(t, rt.Partitions))
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}

// logSizes are the sizes of some of a topic's partitions; nil is all.
func logSizes(t *catalog.Topic, parts []int32) kmsg.DescribeLogDirsResponseDirTopic {
	out := kmsg.DescribeLogDirsResponseDirTopic{Topic: t.Name}
	for i, p := range t.Partitions {
		if p.Log == nil || (parts != nil && !slices.Contains(parts, int32(i))) {
			continue
		}
		out.Partitions = append(out.Partitions, kmsg.DescribeLogDirsResponseDirTopicPartition{Partition: int32(i), Size: p.Log.Stats().Bytes})
	}
	return out
}
