// Serves the fake Pub/Sub of Google's Go client on a port of this machine, guarded against what makes it panic.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// knownAckIDs refuses the requests to change deadlines on which the server would panic, as the real one refuses them.
type knownAckIDs struct{}

// React answers instead of the server if its first result is true. The server's lock is held meanwhile.
func (knownAckIDs) React(request interface{}) (bool, interface{}, error) {
	change, ok := request.(*pb.ModifyAckDeadlineRequest)
	if !ok {
		return false, nil, nil
	}
	if len(change.AckIds) == 0 {
		return true, &emptypb.Empty{}, status.Error(codes.InvalidArgument, "No ack ids specified.")
	}
	for _, id := range change.AckIds {
		if len(id) < 2 || !strings.HasPrefix(id, "m") {
			return true, &emptypb.Empty{}, status.Errorf(codes.InvalidArgument, "Invalid ack id %s", id)
		}
	}
	return false, nil, nil
}

func main() {
	port := flag.Int("port", 8086, "the port to listen on")
	flag.Parse()
	guard := pstest.ServerReactorOption{FuncName: "ModifyAckDeadline", Reactor: knownAckIDs{}}
	server := pstest.NewServerWithPort(*port, guard)
	fmt.Println("listening on", server.Addr)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	server.Close()
}
