"""RTMPose, DWPose and RTMW: a picture to key points as two one-dimensional classifications."""
