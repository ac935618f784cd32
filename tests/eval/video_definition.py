"""HOTA, TETA and tracklet IoU as spec/evaluation.md 3 words them: slow, in plain Python, one frame after the other.

Written from the text and apart from the package, with which it shares nothing but the assignment solver.
"""

from scipy.optimize import linear_sum_assignment

EPS = 2.220446049250313e-16


def alphas(start):
    """0.05, 0.10, ... or 0, 0.05, ..., up to 0.95 in the steps of numpy's arange."""
    return [start + number * 0.05 for number in range(19 if start else 20)]


def solve(scores):
    """Index pairs of the assignment with the largest sum."""
    if not scores or not scores[0]:
        return []
    return list(
        zip(*(part.tolist() for part in linear_sum_assignment([[-s for s in row] for row in scores])), strict=True)
    )


def alignment(frames, truths, tracks):
    """A[i][j] of step 4; ``frames`` are dicts (truth, track) -> similarity, with the sets of those present."""
    pot = {(i, j): 0.0 for i in truths for j in tracks}
    for present_truths, present_tracks, similarity in frames:
        rows = [i for i in truths if i in present_truths]
        columns = [j for j in tracks if j in present_tracks]
        for i in rows:
            for j in columns:
                rivals = sum(similarity[k, j] for k in rows) + sum(similarity[i, k] for k in columns) - similarity[i, j]
                if rivals > EPS:
                    pot[i, j] += similarity[i, j] / rivals
    count = {i: sum(i in frame[0] for frame in frames) for i in truths}
    count_tracks = {j: sum(j in frame[1] for frame in frames) for j in tracks}
    total = {pair: count[pair[0]] + count_tracks[pair[1]] - value for pair, value in pot.items()}
    return {pair: value / total[pair] if total[pair] > EPS else 0.0 for pair, value in pot.items()}, count, count_tracks


def assigned(frame, truths, tracks, scores):
    """Pairs (truth, track) of one frame."""
    rows = [i for i in truths if i in frame[0]]
    columns = [j for j in tracks if j in frame[1]]
    matrix = [[scores[i, j] * frame[2][i, j] for j in columns] for i in rows]
    return [(rows[i], columns[j]) for i, j in solve(matrix)]


def association(matched, count, count_tracks, tp):
    """AssA, AssRe, AssPr of one threshold."""
    ass = [0.0, 0.0, 0.0]
    for (i, j), m in matched.items():
        for index, size in enumerate((count[i] + count_tracks[j] - m, count[i], count_tracks[j])):
            ass[index] += m * m / max(1, size)
    return [value / max(1, tp) for value in ass]


def hota(frames, truths, tracks):
    """The nine numbers of one sequence, in their published order."""
    num_truths = sum(len(frame[0]) for frame in frames)
    num_tracks = sum(len(frame[1]) for frame in frames)
    vectors = []
    scores, count, count_tracks = alignment(frames, truths, tracks)
    for alpha in alphas(0.05):
        tp, loc, matched = 0, 0.0, {}
        for frame in frames:
            for pair in assigned(frame, truths, tracks, scores):
                if frame[2][pair] >= alpha - EPS:
                    tp += 1
                    loc += frame[2][pair]
                    matched[pair] = matched.get(pair, 0) + 1
        fn, fp = num_truths - tp, num_tracks - tp
        ass = association(matched, count, count_tracks, tp)
        det_a, det_re, det_pr = tp / max(1, tp + fn + fp), tp / max(1, tp + fn), tp / max(1, tp + fp)
        loc_a = max(1e-10, loc) / max(1e-10, tp)
        vectors.append(
            [(det_a * ass[0]) ** 0.5, det_a, ass[0], det_re, det_pr, *ass[1:], loc_a, (det_re * ass[0]) ** 0.5]
        )
    return [sum(column) / len(column) for column in zip(*vectors, strict=True)]


def teta_video(frames, truth_class, track_class, classes, exhaustive):
    """Counts of one video: class -> dict of vectors. ``frames`` hold only those with an object."""
    truths, tracks = list(truth_class), list(track_class)
    close = [{pair for pair in frame[2] if frame[2][pair] >= 0.5} for frame in frames]
    reached = [j for j in tracks if any(pair[1] == j for pairs in close for pair in pairs)]
    scores, _, _ = alignment(frames, truths, reached)
    owner = []
    for frame in frames:
        pairs = assigned(frame, truths, reached, scores)
        owner.append({j: i for i, j in pairs if frame[2][i, j] >= 0.5 - EPS})
    cls_fp = {c: [0] * 10 for c in classes}
    counts = {}
    for c in classes:
        counts[c] = teta_class(frames, truth_class, track_class, close, owner, c, cls_fp, exhaustive)
    for c in classes:
        counts[c]["cls_fp"] = cls_fp[c]
    return counts


def teta_class(frames, truth_class, track_class, close, owner, c, cls_fp, exhaustive):
    found = {name: [0] * 20 for name in ("tp", "fn", "fp")} | {name: [0] * 10 for name in ("cls_tp", "cls_fn")}
    found["ass"] = [[0.0] * 3 for _ in range(20)]
    own = [i for i in truth_class if truth_class[i] == c]
    here = [[i for i in own if i in frame[0]] for frame in frames]
    local, called = [], []
    for index, frame in enumerate(frames):
        near = {j for i, j in close[index] if i in here[index]}
        local.append(near - {j for j, i in owner[index].items() if truth_class[i] != c})
        called.append({j for j in frame[1] if track_class[j] == c} if exhaustive else set())
    wide = [len(local[index] | called[index]) for index in range(len(frames))]
    if not any(local):
        found["fn"] = [sum(map(len, here))] * 20
        if exhaustive:
            cls_fp[c] = [sum(wide)] * 10
        return found
    followed = [j for j in track_class if any(j in tracks for tracks in local)]
    scores, count, count_tracks = alignment(frames, own, followed)
    pairs = [assigned(frame, own, followed, scores) if here[index] else [] for index, frame in enumerate(frames)]
    for index, tracks in enumerate(local):
        if exhaustive:
            cls_fp[c] = [value + wide[index] - len(tracks) for value in cls_fp[c]]
    for number, alpha in enumerate(alphas(0)):
        matched = {}
        for index, frame in enumerate(frames):
            kept = [pair for pair in pairs[index] if frame[2][pair] >= alpha - EPS]
            found["tp"][number] += len(kept)
            found["fn"][number] += len(here[index]) - len(kept)
            found["fp"][number] += len(local[index] - {j for _, j in kept})
            for pair in kept:
                matched[pair] = matched.get(pair, 0) + 1
                if number >= 10:
                    if track_class[pair[1]] == c:
                        found["cls_tp"][number - 10] += 1
                    else:
                        found["cls_fn"][number - 10] += 1
                        if track_class[pair[1]] in cls_fp:
                            cls_fp[track_class[pair[1]]][number - 10] += 1
        found["ass"][number] = association(matched, count, count_tracks, found["tp"][number])
    return found


def teta(videos, classes):
    """The ten numbers in percent, not rounded; ``videos`` are results of :func:`teta_video`."""
    rows = []
    for c in classes:
        total = {
            name: [sum(video[c][name][k] for video in videos) for k in range(len(videos[0][c][name]))]
            for name in ("tp", "fn", "fp", "cls_tp", "cls_fn", "cls_fp")
        }
        cls = _mean([_rates(*[total[name][k] for name in ("cls_tp", "cls_fn", "cls_fp")]) for k in range(10)])
        for k in range(20):
            loc = _rates(total["tp"][k], total["fn"][k], total["fp"][k])
            ass = [
                sum(video[c]["ass"][k][part] * video[c]["tp"][k] for video in videos) / max(1, total["tp"][k])
                for part in range(3)
            ]
            overall = (loc[0] + ass[0] + cls[0]) / 3
            rows.append([overall, loc[0], ass[0], cls[0], *loc[1:], *ass[1:], *cls[1:]])
    return [100 * value for value in _mean(rows)]


def tracklet_iou(first, second):
    """``first``, ``second``: a set of pixels for each frame."""
    union = sum(len(a | b) for a, b in zip(first, second, strict=True))
    return sum(len(a & b) for a, b in zip(first, second, strict=True)) / union if union else 1.0


def _rates(tp, fn, fp):
    return tp / max(1, tp + fn + fp), tp / max(1, tp + fn), tp / max(1, tp + fp)


def _mean(rows):
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]
