// Serves Pub/Sub on a port of this machine: gRPC, and Publish as HTTP too. Everything is kept in memory.
//
// The fake of Google's Go client (pstest) does not do for a conformance suite: it ends in a panic when a deadline is
// changed that it does not know (of a lease from before a restart), or after a Seek; every delivery of a message has
// the same ack id, so nothing tells a lost lease; and each subscription wakes a hundred times a second.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

const maxStreams = 10_000 // of one connection: a waiting pull is one

func main() {
	port := flag.Int("port", 8085, "the port to listen on")
	flag.Parse()
	service := newService()
	calls := grpc.NewServer(grpc.MaxRecvMsgSize(2 * maxRequest))
	pb.RegisterPublisherServer(calls, &publisher{service: service})
	pb.RegisterSubscriberServer(calls, &subscriber{service: service})

	server := &http.Server{
		Addr:      fmt.Sprintf("127.0.0.1:%d", *port),
		Handler:   route(calls, &publisher{service: service}),
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		server.Close()
	}()
	fmt.Println("listening on", server.Addr)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// route tells calls of gRPC from requests of HTTP, of which there is one: POST /v1/TOPIC:publish.
func route(calls http.Handler, publisher *publisher) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if strings.HasPrefix(request.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(answer, request)
			return
		}
		topic, found := strings.CutSuffix(strings.TrimPrefix(request.URL.Path, "/v1/"), ":publish")
		if !found || request.Method != http.MethodPost {
			http.NotFound(answer, request)
			return
		}
		text, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, 2*maxRequest))
		wanted := &pb.PublishRequest{}
		if err == nil {
			err = protojson.Unmarshal(text, wanted)
		}
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		wanted.Topic = topic
		made, err := publisher.Publish(request.Context(), wanted)
		if err != nil {
			http.Error(answer, status.Convert(err).Message(), http.StatusBadRequest)
			return
		}
		answer.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(answer, protojson.Format(made))
	})
}
