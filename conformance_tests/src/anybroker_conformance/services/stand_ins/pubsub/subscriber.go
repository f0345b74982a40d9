package main

import (
	"context"
	"time"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	leastDeadline  = 10 * time.Second
	mostDeadline   = 600 * time.Second
	leastRetention = 10 * time.Minute
	mostRetention  = 31 * 24 * time.Hour
	retention      = 7 * 24 * time.Hour                 // where nothing is said
	longestPull    = 90 * time.Second                   // that nothing answers
	early          = 100 * time.Millisecond             // before its deadline a pull is answered
	lost           = "PERMANENT_FAILURE_INVALID_ACK_ID" // "Exactly-once delivery"
)

type subscriber struct {
	pb.UnimplementedSubscriberServer
	*service
}

func (s *subscriber) CreateSubscription(_ context.Context, wanted *pb.Subscription) (*pb.Subscription, error) {
	if err := s.complete(wanted); err != nil {
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.subscriptions[wanted.Name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Subscription already exists: %s", wanted.Name)
	}
	of := s.topics[wanted.Topic]
	if of == nil {
		return nil, noTopic(wanted.Topic)
	}
	made := &subscription{proto: wanted, held: map[string]*lease{}, wake: make(chan struct{})}
	if policy := wanted.DeadLetterPolicy; policy != nil {
		if made.deadLetter = s.topics[policy.DeadLetterTopic]; made.deadLetter == nil {
			return nil, noTopic(policy.DeadLetterTopic)
		}
	}
	s.subscriptions[wanted.Name], of.subscriptions[wanted.Name] = made, made
	return wanted, nil
}

// complete sets what a new subscription does not say, and refuses what is out of bounds.
func (s *subscriber) complete(wanted *pb.Subscription) error {
	if wanted.AckDeadlineSeconds == 0 {
		wanted.AckDeadlineSeconds = int32(leastDeadline / time.Second)
	}
	if wanted.MessageRetentionDuration == nil {
		wanted.MessageRetentionDuration = durationpb.New(retention)
	}
	if err := check(wanted.Name, wanted.Labels); err != nil {
		return err
	}
	deadline := time.Duration(wanted.AckDeadlineSeconds) * time.Second
	if err := between("ack deadline", deadline, leastDeadline, mostDeadline); err != nil {
		return err
	}
	return between("message retention", wanted.MessageRetentionDuration.AsDuration(), leastRetention, mostRetention)
}

func (s *subscriber) GetSubscription(_ context.Context, request *pb.GetSubscriptionRequest) (*pb.Subscription, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, err := s.find(request.Subscription)
	if err != nil {
		return nil, err
	}
	return found.proto, nil
}

func (s *subscriber) DeleteSubscription(_ context.Context, request *pb.DeleteSubscriptionRequest) (*emptypb.Empty, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, err := s.find(request.Subscription)
	if err != nil {
		return nil, err
	}
	delete(s.subscriptions, request.Subscription)
	if of := s.topics[found.proto.Topic]; of != nil {
		delete(of.subscriptions, request.Subscription)
	}
	found.wakeAll()
	return &emptypb.Empty{}, nil
}

func (s *subscriber) Pull(ctx context.Context, request *pb.PullRequest) (*pb.PullResponse, error) {
	if request.MaxMessages <= 0 {
		return nil, status.Error(codes.InvalidArgument, "max_messages must be more than 0.")
	}
	latest := time.Now().Add(longestPull)
	if deadline, has := ctx.Deadline(); has && deadline.Before(latest) {
		latest = deadline.Add(-early)
	}
	for {
		answer, wake, next, err := s.look(request)
		if err != nil || len(answer.ReceivedMessages) > 0 || request.ReturnImmediately || !time.Now().Before(latest) {
			return answer, err
		}
		if next.IsZero() || next.After(latest) {
			next = latest
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look pulls what is there; if that is nothing, it tells what to wait for, and when the next lease ends.
func (s *subscriber) look(request *pb.PullRequest) (*pb.PullResponse, <-chan struct{}, time.Time, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, err := s.find(request.Subscription)
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	next, _ := found.expire()
	taken := found.take(int(request.MaxMessages), s.publish)
	return &pb.PullResponse{ReceivedMessages: taken}, found.wake, next, nil
}

func (s *subscriber) Acknowledge(_ context.Context, request *pb.AcknowledgeRequest) (*emptypb.Empty, error) {
	return s.settle(request.Subscription, request.AckIds, func(of *subscription, one *lease) {
		delete(of.held, one.ackID)
		if of.orders(one.what) { // the next of its key may be delivered
			of.wakeAll()
		}
	})
}

func (s *subscriber) ModifyAckDeadline(_ context.Context, request *pb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	seconds := time.Duration(request.AckDeadlineSeconds) * time.Second
	if err := between("ack deadline", seconds, 0, mostDeadline); err != nil {
		return nil, err
	}
	return s.settle(request.Subscription, request.AckIds, func(of *subscription, one *lease) {
		of.hold(one, time.Now().Add(seconds))
	})
}

// settle does something with each lease that is still there; only exactly-once delivery tells of those that are not.
func (s *subscriber) settle(name string, ackIDs []string, do func(*subscription, *lease)) (*emptypb.Empty, error) {
	if len(ackIDs) == 0 {
		return nil, status.Error(codes.InvalidArgument, "No ack ids specified.")
	}
	for _, id := range ackIDs {
		if !isAckID(id) {
			return nil, status.Errorf(codes.InvalidArgument, "Invalid ack id: %s", id)
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, err := s.find(name)
	if err != nil {
		return nil, err
	}
	found.expire()
	refused := map[string]string{}
	for _, id := range ackIDs {
		if one := found.held[id]; one != nil {
			do(found, one)
		} else {
			refused[id] = lost
		}
	}
	if len(refused) == 0 || !found.proto.EnableExactlyOnceDelivery {
		return &emptypb.Empty{}, nil
	}
	told, err := status.New(codes.FailedPrecondition, "Some acknowledgement ids are not valid any more.").
		WithDetails(&errdetails.ErrorInfo{Reason: "EXACTLY_ONCE_ACKID_FAILURE", Domain: "pubsub.googleapis.com", Metadata: refused})
	if err != nil {
		return nil, err
	}
	return nil, told.Err()
}

func (s *subscriber) Seek(_ context.Context, request *pb.SeekRequest) (*pb.SeekResponse, error) {
	target, is := request.Target.(*pb.SeekRequest_Time)
	if !is {
		return nil, status.Error(codes.Unimplemented, "Seek knows times only.")
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, err := s.find(request.Subscription)
	if err != nil {
		return nil, err
	}
	found.seek(target.Time.AsTime())
	return &pb.SeekResponse{}, nil
}

// find returns a subscription that must exist. The lock is held.
func (s *service) find(name string) (*subscription, error) {
	if found := s.subscriptions[name]; found != nil {
		return found, nil
	}
	return nil, status.Errorf(codes.NotFound, "Subscription does not exist: %s", name)
}
