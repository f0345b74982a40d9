package main

import (
	"container/heap"
	"container/list"
	"crypto/rand"
	"fmt"
	"maps"
	"path"
	"strconv"
	"time"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// stored is a message in a subscription.
type stored struct {
	message    *pb.PubsubMessage
	place      int // in the order of publishing
	deliveries int32
}

// lease is a message that is held under an ack id, until it ends.
type lease struct {
	ackID string
	what  *stored
	until time.Time
}

// ends are the times at which leases end, or ended before they were changed; the next one first.
type ends []end

type end struct {
	at    time.Time
	ackID string
}

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(one any)      { *e = append(*e, one.(end)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// subscription has messages that are ready, and such that are held. The lock of the service guards it.
type subscription struct {
	proto      *pb.Subscription
	deadLetter *topic
	ready      list.List // of *stored
	held       map[string]*lease
	ends       ends
	wake       chan struct{} // closed, and replaced, when messages become ready
}

var (
	process = rand.Text()[:16] // ack ids of before a restart are nobody's
	leases  int
)

// newAckID is another one for every delivery, as Pub/Sub's. The lock is held.
func newAckID() string {
	leases++
	return fmt.Sprintf("%s-%d", process, leases)
}

// isAckID tells whether a text may be an ack id, also of a process before this one.
func isAckID(text string) bool {
	if len(text) <= len(process) || text[len(process)] != '-' {
		return false
	}
	_, err := strconv.Atoi(text[len(process)+1:])
	return err == nil
}

func (s *subscription) wakeAll() {
	close(s.wake)
	s.wake = make(chan struct{})
}

// hold lets a lease end at a time, or now: then the message is ready.
func (s *subscription) hold(one *lease, until time.Time) {
	if !until.After(time.Now()) {
		delete(s.held, one.ackID)
		s.makeReady(one.what)
		return
	}
	one.until = until
	s.held[one.ackID] = one
	heap.Push(&s.ends, end{until, one.ackID})
	if s.ends[0].ackID == one.ackID { // who waits, waits for a later one
		s.wakeAll()
	}
}

// makeReady puts a message that was held at the end; an ordered one before those of its key that were published later.
func (s *subscription) makeReady(one *stored) {
	defer s.wakeAll()
	if s.orders(one) {
		for element := s.ready.Front(); element != nil; element = element.Next() {
			other := element.Value.(*stored)
			if other.message.OrderingKey == one.message.OrderingKey && other.place > one.place {
				s.ready.InsertBefore(one, element)
				return
			}
		}
	}
	s.ready.PushBack(one)
}

// orders tells whether a message is delivered in the order of its key.
func (s *subscription) orders(one *stored) bool {
	return s.proto.EnableMessageOrdering && one.message.OrderingKey != ""
}

// heldKeys are the ordering keys of which a message is held: no other of them is delivered until all are settled.
func (s *subscription) heldKeys() map[string]bool {
	keys := map[string]bool{}
	for _, one := range s.held {
		if s.orders(one.what) {
			keys[one.what.message.OrderingKey] = true
		}
	}
	return keys
}

// expire makes the messages ready whose leases have ended; returns when the next one does, if there is one.
func (s *subscription) expire() (time.Time, bool) {
	now := time.Now()
	for len(s.ends) > 0 {
		next := s.ends[0]
		one := s.held[next.ackID]
		current := one != nil && one.until.Equal(next.at)
		if current && next.at.After(now) {
			return next.at, true
		}
		heap.Pop(&s.ends)
		if current {
			s.hold(one, now)
		}
	}
	return time.Time{}, false
}

// take leases messages that are ready; those that were delivered too often go to the dead letter topic.
func (s *subscription) take(limit int, publish func(*topic, []*pb.PubsubMessage) []string) []*pb.ReceivedMessage {
	policy := s.proto.DeadLetterPolicy
	now := time.Now()
	until := now.Add(time.Duration(s.proto.AckDeadlineSeconds) * time.Second)
	var taken []*pb.ReceivedMessage
	held := s.heldKeys()
	for element := s.ready.Front(); element != nil && len(taken) < limit; {
		one, next := element.Value.(*stored), element.Next()
		if held[one.message.OrderingKey] {
			element = next
			continue
		}
		s.ready.Remove(element)
		element = next
		if now.Sub(one.message.PublishTime.AsTime()) > s.proto.MessageRetentionDuration.AsDuration() {
			continue
		}
		if policy != nil && one.deliveries >= policy.MaxDeliveryAttempts {
			publish(s.deadLetter, []*pb.PubsubMessage{s.givenUp(one)})
			continue
		}
		one.deliveries++
		received := &pb.ReceivedMessage{AckId: newAckID(), Message: one.message}
		if policy != nil {
			received.DeliveryAttempt = one.deliveries
		}
		s.hold(&lease{ackID: received.AckId, what: one}, until)
		taken = append(taken, received)
	}
	return taken
}

// givenUp is what goes to the dead letter topic, with where it comes from.
func (s *subscription) givenUp(one *stored) *pb.PubsubMessage {
	attributes := maps.Clone(one.message.Attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	attributes["CloudPubSubDeadLetterSourceSubscription"] = path.Base(s.proto.Name)
	attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = strconv.Itoa(int(one.deliveries))
	return &pb.PubsubMessage{Data: one.message.Data, Attributes: attributes, OrderingKey: one.message.OrderingKey}
}

// seek forgets what was published before a time.
func (s *subscription) seek(target time.Time) {
	before := func(one *stored) bool { return one.message.PublishTime.AsTime().Before(target) }
	for element := s.ready.Front(); element != nil; {
		next := element.Next()
		if before(element.Value.(*stored)) {
			s.ready.Remove(element)
		}
		element = next
	}
	for ackID, one := range s.held {
		if before(one.what) {
			delete(s.held, ackID)
		}
	}
}
