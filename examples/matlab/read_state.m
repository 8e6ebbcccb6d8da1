function read_state(url, seconds)
% READ_STATE  Reads the state of cortex from a running service, and says it once a second.
%
%     read_state('http://127.0.0.1:8000', 60)
%
% MATLAB polls: it asks for the predictions after the last one that it has. In JSON a probability that cannot be vouched
% for is null, which JSONDECODE turns into []: here it becomes NaN, never 0. `flags` says why.
if nargin < 1, url = 'http://127.0.0.1:8000'; end
if nargin < 2, seconds = 60; end
status = jsondecode(webread([url '/v1/status'], weboptions('ContentType', 'text')));
run = status.run_id;
last = status.next_seq - 1;
for k = 1:seconds
    pause(1);
    asked = sprintf('%s/v1/predictions?since_seq=%d&limit=1000&fields=probability', url, last);
    answer = jsondecode(webread(asked, weboptions('ContentType', 'text', 'Timeout', 5)));
    if ~strcmp(answer.run_id, run)  % the service has started again, and its numbers too
        run = answer.run_id;
        last = -1;
        continue
    end
    if answer.first_seq > last + 1
        fprintf('%d lost: they are held for ten minutes\n', answer.first_seq - last - 1);
    end
    new = answer.predictions;
    if isempty(new)
        fprintf('nothing new: nothing is known about now\n');
        continue
    end
    last = new(end).seq;
    probability = arrayfun(@known, new);
    fprintf('%.2f s: %.2f on average; known %.0f %% of the time\n', new(end).sample_time, ...
        mean(probability(~isnan(probability))), 100 * mean(~isnan(probability)));
end
end

function p = known(one)
% NaN where the probability is null, or a flag other than `overload` stands beside it. Without flags there is no cell of
% words to compare: JSONDECODE makes [] of an empty list too.
p = NaN;
if ~isempty(one.probability) && (isempty(one.flags) || all(strcmp(one.flags, 'overload')))
    p = one.probability;
end
end
