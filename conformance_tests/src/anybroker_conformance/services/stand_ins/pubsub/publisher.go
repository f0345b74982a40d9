package main

import (
	"context"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The limits of "Quotas and limits".
const (
	maxRequest  = 10_000_000 // bytes
	maxMessages = 1_000      // of a request
	maxKey      = 1_024      // bytes of an ordering key
	maxLabels   = 64
)

var (
	nameOf  = regexp.MustCompile(`^projects/[^/]+/(?:topics|subscriptions)/([A-Za-z][-A-Za-z0-9_.~+%]{2,254})$`)
	labelOf = regexp.MustCompile(`^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$`)
)

// service is what both of its halves share; one lock guards it all.
type service struct {
	mutex         sync.Mutex
	topics        map[string]*topic
	subscriptions map[string]*subscription
	published     int
}

type topic struct {
	proto         *pb.Topic
	subscriptions map[string]*subscription
}

func newService() *service {
	return &service{topics: map[string]*topic{}, subscriptions: map[string]*subscription{}}
}

// publish stores messages in every subscription of a topic. The lock is held.
func (s *service) publish(topic *topic, messages []*pb.PubsubMessage) []string {
	now := timestamppb.Now()
	ids := make([]string, 0, len(messages))
	for _, message := range messages {
		s.published++
		message.MessageId, message.PublishTime = fmt.Sprintf("%d", s.published), now
		ids = append(ids, message.MessageId)
		for _, each := range topic.subscriptions {
			each.ready.PushBack(&stored{message: message, place: s.published})
		}
	}
	for _, each := range topic.subscriptions {
		each.wakeAll()
	}
	return ids
}

type publisher struct {
	pb.UnimplementedPublisherServer
	*service
}

func (p *publisher) CreateTopic(_ context.Context, wanted *pb.Topic) (*pb.Topic, error) {
	if err := check(wanted.Name, wanted.Labels); err != nil {
		return nil, err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.topics[wanted.Name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Topic already exists: %s", wanted.Name)
	}
	p.topics[wanted.Name] = &topic{proto: wanted, subscriptions: map[string]*subscription{}}
	return wanted, nil
}

func (p *publisher) GetTopic(_ context.Context, request *pb.GetTopicRequest) (*pb.Topic, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if found := p.topics[request.Topic]; found != nil {
		return found.proto, nil
	}
	return nil, noTopic(request.Topic)
}

func (p *publisher) DeleteTopic(_ context.Context, request *pb.DeleteTopicRequest) (*emptypb.Empty, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	found := p.topics[request.Topic]
	if found == nil {
		return nil, noTopic(request.Topic)
	}
	for _, each := range found.subscriptions {
		each.proto.Topic = "_deleted-topic_"
	}
	delete(p.topics, request.Topic)
	return &emptypb.Empty{}, nil
}

func (p *publisher) ListTopics(_ context.Context, request *pb.ListTopicsRequest) (*pb.ListTopicsResponse, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	names := []string{}
	for name := range p.topics {
		if strings.HasPrefix(name, request.Project+"/topics/") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	begin, _ := strconv.Atoi(request.PageToken) // none: the first page
	begin = max(0, min(begin, len(names)))
	end := len(names)
	answer := &pb.ListTopicsResponse{}
	if size := int(request.PageSize); size > 0 && begin+size < end {
		end = begin + size
		answer.NextPageToken = strconv.Itoa(end)
	}
	for _, name := range names[begin:end] {
		answer.Topics = append(answer.Topics, p.topics[name].proto)
	}
	return answer, nil
}

func (p *publisher) Publish(_ context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
	if size := proto.Size(request); size > maxRequest || len(request.Messages) > maxMessages {
		return nil, status.Errorf(codes.InvalidArgument, "%d messages of %d bytes are too many", len(request.Messages), size)
	}
	if len(request.Messages) == 0 {
		return nil, status.Error(codes.InvalidArgument, "No messages to publish.")
	}
	for _, message := range request.Messages {
		if len(message.Data) == 0 && len(message.Attributes) == 0 {
			return nil, status.Error(codes.InvalidArgument, "Some messages have neither data nor attributes.")
		}
		if key := message.OrderingKey; key != request.Messages[0].OrderingKey || len(key) > maxKey {
			return nil, status.Error(codes.InvalidArgument, "The ordering key is too long, or not that of all messages.")
		}
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	found := p.topics[request.Topic]
	if found == nil {
		return nil, noTopic(request.Topic)
	}
	return &pb.PublishResponse{MessageIds: p.publish(found, request.Messages)}, nil
}

func noTopic(name string) error {
	return status.Errorf(codes.NotFound, "Topic not found: %s", name)
}

// check refuses the names and labels that Pub/Sub refuses.
func check(name string, labels map[string]string) error {
	parts := nameOf.FindStringSubmatch(name)
	if parts == nil || strings.HasPrefix(parts[1], "goog") {
		return status.Errorf(codes.InvalidArgument, "Invalid resource name given (name=%s).", name)
	}
	for key, value := range labels {
		if len(labels) > maxLabels || !labelOf.MatchString(key) || !labelOf.MatchString(value) {
			return status.Errorf(codes.InvalidArgument, "Invalid label given (%s=%s).", key, value)
		}
	}
	return nil
}

// between refuses a time that is given, and is out of its bounds.
func between(what string, seconds, least, most time.Duration) error {
	if seconds < least || seconds > most {
		return status.Errorf(codes.InvalidArgument, "Invalid %s given: %s is not between %s and %s.", what, seconds, least, most)
	}
	return nil
}
