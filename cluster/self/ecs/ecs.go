package ecs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// EndpointVariable is the environment variable that ECS sets.
const EndpointVariable = "ECS_CONTAINER_METADATA_URI_V4"

const (
	// The endpoint may not be there yet when a container starts; it is asked
	// again every half second until the caller's context ends.
	retryInterval = 500 * time.Millisecond
	// An answer has some KiB per container of the task, which are ten at most.
	maxAnswer = 1 << 20
)

// Task is who and where a task is.
type Task struct {
	// Name is the task's service, which outlives the task and is one per zone
	// here; the task definition's family if the task belongs to no service.
	Name string
	// Zone is the availability zone, such as "us-east-1a".
	Zone string
	// ID is the last part of the task's ARN.
	ID string
}

// Ask returns what the endpoint says. It tries until ctx ends.
func Ask(ctx context.Context, endpoint string) (Task, error) {
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	for {
		task, err := ask(ctx, strings.TrimSuffix(endpoint, "/")+"/task")
		if err == nil {
			return task, nil
		}
		select {
		case <-ctx.Done():
			return Task{}, err
		case <-tick.C:
		}
	}
}

func ask(ctx context.Context, url string) (Task, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Task{}, fmt.Errorf("ask the ECS task metadata endpoint: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return Task{}, fmt.Errorf("ask the ECS task metadata endpoint: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Task{}, fmt.Errorf("ask the ECS task metadata endpoint: %s answers %s", url, res.Status)
	}
	var answer struct {
		TaskARN          string
		AvailabilityZone string
		ServiceName      string
		Family           string
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&answer); err != nil {
		return Task{}, fmt.Errorf("read the answer of the ECS task metadata endpoint %s: %w", url, err)
	}
	t := Task{Name: answer.ServiceName, Zone: answer.AvailabilityZone, ID: answer.TaskARN[strings.LastIndex(answer.TaskARN, "/")+1:]}
	if t.Name == "" {
		t.Name = answer.Family
	}
	return t, nil
}
