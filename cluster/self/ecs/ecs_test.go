package ecs

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// metadata serves an answer under the path that ECS uses, after some failures.
func metadata(t *testing.T, answer string, failures int32) string {
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v4/0123abcd-1/task", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= failures {
			http.Error(w, "not yet", http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(answer))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL + "/v4/0123abcd-1"
}

const answer = `{"Cluster":"arn:aws:ecs:us-east-1:111122223333:cluster/c","ServiceName":"node-a",
"TaskARN":"arn:aws:ecs:us-east-1:111122223333:task/c/158d1c8083dd49d6b527399fd6414f5c","Family":"ipfs","Revision":"7",
"AvailabilityZone":"us-east-1a","LaunchType":"FARGATE","Containers":[{"Name":"cluster"}]}`

func TestAsk(t *testing.T) {
	task, err := Ask(context.Background(), metadata(t, answer, 0))
	require.NoError(t, err)
	require.Equal(t, Task{Name: "node-a", Zone: "us-east-1a", ID: "158d1c8083dd49d6b527399fd6414f5c"}, task)
}

func TestATaskOfNoService(t *testing.T) {
	task, err := Ask(context.Background(), metadata(t, `{"Family":"ipfs","TaskARN":"x"}`, 0)+"/")
	require.NoError(t, err)
	require.Equal(t, Task{Name: "ipfs", ID: "x"}, task)
}

func TestItIsAskedAgain(t *testing.T) {
	task, err := Ask(context.Background(), metadata(t, answer, 1))
	require.NoError(t, err)
	require.Equal(t, "node-a", task.Name)
}

func TestUntilTheTimeIsUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Ask(ctx, metadata(t, answer, 0))
	require.ErrorIs(t, err, context.Canceled)
}
