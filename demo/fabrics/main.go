// SPDX-License-Identifier: Apache-2.0

// demo-fabrics is the catalog of the demo: a gRPC server that knows every fabric on the ballot.
//
// Environment: LISTEN (host:port, default :8080; port 0 picks a free one), POD_NAME (told to callers in
// the response header x-demo-pod), LINGER_SECONDS (how long to go on serving after SIGTERM, so that
// callers learn of it before the listener closes; default 0).
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "demo/fabricspb"
)

const (
	messageBytesMax = 64 << 10
	streamsMax      = 1000
	drainMax        = 10 * time.Second
)

type catalog struct {
	pb.UnimplementedCatalogServer
}

func (catalog) List(context.Context, *pb.ListRequest) (*pb.ListReply, error) {
	return &pb.ListReply{Fabrics: ballot}, nil
}

func (catalog) Find(_ context.Context, request *pb.FindRequest) (*pb.FindReply, error) {
	fabric := find(request.Id)
	if fabric == nil {
		return nil, status.Errorf(codes.NotFound, "no fabric %.40q on the ballot", request.Id)
	}
	return &pb.FindReply{Fabric: fabric}, nil
}

// say writes one event to standard output.
func say(format string, args ...interface{}) {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	fmt.Printf("%s fabrics %s\n", now, fmt.Sprintf(format, args...))
}

// fail writes one sentence to standard error and ends the process.
func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "demo-fabrics: "+format+"\n", args...)
	os.Exit(1)
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func linger() time.Duration {
	text := setting("LINGER_SECONDS", "0")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= 0 && seconds <= 600) {
		fail("LINGER_SECONDS=%q is not a number from 0 to 600", text)
	}
	return time.Duration(seconds * float64(time.Second))
}

// tellPod puts the name of this replica into the header of every answer.
func tellPod(name string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request interface{}, _ *grpc.UnaryServerInfo,
		next grpc.UnaryHandler) (interface{}, error) {
		if err := grpc.SetHeader(ctx, metadata.Pairs("x-demo-pod", name)); err != nil {
			return nil, err
		}
		return next(ctx, request)
	}
}

// drain ends the server: open calls may finish, but not for ever.
func drain(server *grpc.Server) {
	done := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainMax):
		server.Stop()
	}
}

func main() {
	address := setting("LISTEN", ":8080")
	wait := linger()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)

	listener, err := net.Listen("tcp", address)
	if err != nil {
		fail("cannot listen on LISTEN=%s: %v", address, err)
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(tellPod(setting("POD_NAME", host))),
		grpc.MaxRecvMsgSize(messageBytesMax),
		grpc.MaxConcurrentStreams(streamsMax),
	)
	pb.RegisterCatalogServer(server, catalog{})

	drained := make(chan struct{})
	go func() {
		say("stopping on %s", <-signals)
		time.Sleep(wait)
		drain(server)
		close(drained)
	}()
	say("listening on %s, %d fabrics on the ballot", listener.Addr(), len(ballot))
	if err := server.Serve(listener); err != nil {
		fail("serving failed: %v", err)
	}
	<-drained
	say("stopped")
}
