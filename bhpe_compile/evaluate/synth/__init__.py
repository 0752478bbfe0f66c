"""The open evaluation set: drawn people whose pose, shape and keypoints are known exactly."""
